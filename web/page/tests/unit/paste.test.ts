import { expect, test } from 'vitest';
import { asTyped, bracketed, needsAsking, pieces, shape, shown } from '../../src/paste';

test('one line is sent at once; lines, length and control characters are asked about', () => {
  expect(needsAsking('show version')).toBe(false);
  expect(needsAsking('a\tb')).toBe(false);
  expect(needsAsking('reboot\n')).toBe(true);
  expect(needsAsking('a\rb')).toBe(true);
  expect(needsAsking('x'.repeat(2001))).toBe(true);
  expect(needsAsking('\x1b[201~')).toBe(true);
  expect(needsAsking('\x03')).toBe(true);
  for (const unseen of ['\x9b31m', '\u202e', '\u200b', '\u2028', '\u2066']) {
    expect([needsAsking(`ls ${unseen}`), needsAsking(`ls ${unseen}`)]).toEqual([true, true]);
  }
  expect(needsAsking('größe 📦 שלום')).toBe(false);
});

test('each line end leaves as one CR, everything else as it is', () => {
  expect([...asTyped('a\r\nb\nc\rd')]).toEqual([97, 13, 98, 13, 99, 13, 100]);
  expect([...asTyped('é')]).toEqual([0xc3, 0xa9]);
});

test('what is shown counts lines and bytes as they are sent', () => {
  expect(shape('a\r\nb\n')).toEqual({ lines: 2, bytes: 4, controls: false });
  expect(shape('é')).toEqual({ lines: 1, bytes: 2, controls: false });
});

test('control characters are made visible', () => {
  expect(shown('a\x1b[0m\x7f\r\nb')).toBe('a\u241b[0m\u2421\nb');
  expect(shown('rm \u202etxt.sh\x9b')).toBe('rm ⟨U+202E⟩txt.sh⟨U+009B⟩');
  expect(shown('x'.repeat(100), 10)).toBe('x'.repeat(10));
});

test('nothing in a bracketed paste ends it, nor what is left when its end marks are taken out', () => {
  for (const inner of ['a\x1b[201~b', 'a\x1b[20\x1b[201~1~b', 'a\x1b\x1b[20\x1b[201~1~[201~b']) {
    expect(bracketed(inner)).toBe('\x1b[200~ab\x1b[201~');
  }
});

test('end marks within each other, however many, are taken out in one pass', { timeout: 2000 }, () => {
  const many = 100_000;
  const inner = '\x1b[20'.repeat(many) + '1~'.repeat(many);
  expect(bracketed(`a${inner}📦~`)).toBe('\x1b[200~a📦~\x1b[201~');
});

test('a paste of 100 kB is cut without a byte lost', () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251);
  const cut = [...pieces(bytes)];
  expect(cut.every((piece) => piece.length <= 4096)).toBe(true);
  expect(cut.flatMap((piece) => [...piece])).toEqual([...bytes]);
});
