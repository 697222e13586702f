import { expect, test } from 'vitest';
import { Rates } from '../../src/rates';

test('what is printed between two counts is spread over the time between them', () => {
  const rates = new Rates();
  rates.add(1000, 100_000);
  rates.add(7000, 106_000);
  expect(rates.series(106_000).slice(-4)).toEqual([0, 2000, 2000, 2000]);
  expect(rates.rate(106_000)).toBe(1000);
});

test('the first count is no rate, and a console that falls silent goes to nothing', () => {
  const rates = new Rates();
  rates.add(5_000_000, 100_000);
  expect(rates.rate(100_000)).toBe(0);
  rates.add(5_000_600, 102_000);
  expect(rates.rate(102_000)).toBe(100);
  expect(rates.rate(120_000)).toBe(0);
  expect(rates.series(300_000).every((n) => n === 0)).toBe(true);
});

test('a count that began again counts from nothing', () => {
  const rates = new Rates();
  rates.add(5000, 100_000);
  rates.add(300, 102_000);
  expect(rates.series(102_000).at(-1)).toBe(300);
});
