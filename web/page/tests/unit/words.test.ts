import { expect, test } from 'vitest';
import { bytes, clock, count, duration, sentence } from '../../src/words';

test('figures are short and do not lie at their edges', () => {
  expect([0, 999, 1000, 9949, 9951, 999_499, 999_501, 1.5e9].map(bytes)).toEqual([
    '0 B', '999 B', '1.0 kB', '9.9 kB', '10 kB', '999 kB', '1.0 MB', '1.5 GB',
  ]);
  expect([900, 59_000, 61_000, 3_700_000, 90_000_000].map(duration)).toEqual([
    '0 s', '59 s', '1 min', '1 h 1 min', '1 d 1 h',
  ]);
  expect([0, 75.4, 3723].map(clock)).toEqual(['0:00', '1:15', '1:02:03']);
  expect([count(1, 'line'), count(10_000, 'line')]).toEqual(['1 line', '10,000 lines']);
});

test('what a gateway says is a sentence', () => {
  expect(['the link has expired', 'It is. ', ''].map(sentence)).toEqual(['The link has expired.', 'It is.', '']);
});
