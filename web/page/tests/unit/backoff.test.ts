import { expect, test } from 'vitest';
import { Backoff } from '../../src/backoff';

test('waits double up to a most, and begin anew when the link has held', () => {
  const backoff = new Backoff(() => 1, 500, 20_000);
  expect([1, 2, 3, 4, 5, 6, 7, 8].map(() => backoff.next())).toEqual([
    500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000,
  ]);
  backoff.reset();
  expect(backoff.next()).toBe(500);
});

test('chance spreads the waits, never to nothing', () => {
  expect(new Backoff(() => 0, 500).next()).toBe(250);
  expect(new Backoff(() => 0.5, 500).next()).toBe(375);
});

test('a link that is down for a year is tried as often as one that is down for an hour', () => {
  const backoff = new Backoff(() => 1);
  for (let i = 0; i < 5000; i += 1) backoff.next();
  expect(backoff.next()).toBe(20_000);
});
