import { expect, test } from 'vitest';
import { scrollTo, slice } from '../../src/virtual';

test('only what is seen is drawn, and a few rows on either side', () => {
  expect(slice(10_000, 30, 0, 600, 5)).toEqual({ first: 0, end: 25 });
  expect(slice(10_000, 30, 3000, 600, 5)).toEqual({ first: 95, end: 125 });
  expect(slice(10_000, 30, 10_000 * 30 - 600, 600, 5)).toEqual({ first: 9975, end: 10_000 });
});

test('a row that is seen in part is drawn', () => {
  expect(slice(100, 30, 29, 31, 0)).toEqual({ first: 0, end: 2 });
  expect(slice(100, 30, 30, 31, 0)).toEqual({ first: 1, end: 3 });
});

test('a list that shrank under its scroll position, or is empty, is no fault', () => {
  expect(slice(0, 30, 500, 600)).toEqual({ first: 0, end: 0 });
  const { first, end } = slice(3, 30, 90_000, 600, 0);
  expect(first).toBeLessThan(3);
  expect(end).toBe(3);
  expect(slice(3, 30, -50, 600, 0)).toEqual({ first: 0, end: 3 });
});

test('a row is scrolled to by the least way', () => {
  expect(scrollTo(5, 30, 0, 600)).toBe(0);
  expect(scrollTo(20, 30, 0, 600)).toBe(30);
  expect(scrollTo(2, 30, 300, 600)).toBe(60);
});
