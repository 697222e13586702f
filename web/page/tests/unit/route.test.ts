import { expect, test } from 'vitest';
import { parseRoute, type Route, writeRoute } from '../../src/route';

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
