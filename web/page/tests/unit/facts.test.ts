import { expect, test } from 'vitest';
import { factsFrom, serverFrom } from '../../src/api';

test('facts are texts by their keys, in order, and whatever is none is left out', () => {
  const found = factsFrom({
    facts: { guest: { 'os.name': 'Debian', 'a<b>': '<img src=x onerror=alert(1)>', n: 7, o: {} }, host: null },
  });
  expect(found).toEqual({
    guest: [
      ['a<b>', '<img src=x onerror=alert(1)>'],
      ['os.name', 'Debian'],
    ],
    host: [],
  });
  for (const raw of [null, 7, [], {}, { facts: [] }, { facts: { guest: 'x', host: [1] } }]) {
    expect(factsFrom(raw)).toEqual({ guest: [], host: [] });
  }
});

test('a server knows of guests where it says so', () => {
  const of = (features: unknown): boolean | undefined => serverFrom({ name: 'east', state: 'up', features })?.guests;
  expect([of(['log', 'guests']), of(['log']), of(null), of('guests')]).toEqual([true, false, false, false]);
});
