import { expect, test } from 'vitest';
import { parseRoute, type Route, shareWord, writeRoute } from '../../src/route';

test('names come back as they went, whatever is in them', () => {
  const routes: Route[] = [
    { at: 'list', open: [] },
    { at: 'list', open: [{ server: 'east', name: 'a/b+c #?%' }, { server: '', name: '<img src=x>' }] },
    { at: 'wall' },
    { at: 'replay', of: { server: 'ö', name: 'web 01' } },
  ];
  for (const route of routes) expect(parseRoute(writeRoute(route))).toEqual(route);
});

test('an address that means nothing is the list', () => {
  for (const hash of ['', '#', '#/', '#/nothing', '#/open', '#/open/x', '#/open/%zz/%zz', '#/replay', '#/open/a/']) {
    expect(parseRoute(hash)).toEqual({ at: 'list', open: [] });
  }
});

test('a share link has one word, and nothing else is one', () => {
  expect(shareWord('#/share/1f0c.Ab-_9')).toBe('1f0c.Ab-_9');
  for (const hash of ['', '#/', '#/share/', '#/share/a/b', '#/share/a b', '#/open/share/a', '#share/a', '#/share/%41']) {
    expect(shareWord(hash)).toBe('');
  }
});
