import { expect, test } from 'vitest';
import { parseCast, Player } from '../../src/cast';

const HEADER = '{"version":2,"width":100,"height":30,"timestamp":1796000000}';
const cast = (...lines: string[]): ReturnType<typeof parseCast> => parseCast([HEADER, ...lines, ''].join('\n'));

function player(idle = 0): { player: Player; screen: () => string } {
  let text = '';
  const recording = cast('[1, "o", "a"]', '[2, "o", "b"]', '[2, "o", "c"]', '[60, "o", "d"]');
  const made = new Player(recording, { reset: () => (text = ''), write: (more) => (text += more) }, idle);
  made.seek(0);
  return { player: made, screen: () => text };
}

test('a recording has its size, its time and what was printed', () => {
  const read = cast('[0.5, "o", "hi"]', '[1, "i", "typed"]', 'not json', '[2, "o", "\\u001b[1m"]');
  expect(read).toMatchObject({ cols: 100, rows: 30, began: 1796000000, length: 2 });
  expect(read.events).toEqual([
    { at: 0.5, text: 'hi' },
    { at: 2, text: '\x1b[1m' },
  ]);
});

test('what is no recording is a fault, a wild size or time is none', () => {
  expect(() => parseCast('<html>')).toThrow(/no recording/);
  expect(() => parseCast('{"version":1}')).toThrow(/no recording/);
  expect(() => parseCast('null')).toThrow(/no recording/);
  expect(parseCast('{"version":2,"width":1e9,"height":-1}')).toMatchObject({ cols: 80, rows: 24, length: 0 });
  expect(cast('[5, "o", "x"]', '[3, "o", "y"]').events.map((e) => e.at)).toEqual([5, 5]);
});

test('it plays by the clock, at its speed', () => {
  const { player: p, screen } = player();
  p.play(10_000);
  p.tick(10_900);
  expect(screen()).toBe('');
  p.tick(11_000);
  expect(screen()).toBe('a');
  p.speed = 2;
  p.tick(11_500);
  expect(screen()).toBe('abc');
  p.pause();
  p.tick(99_000);
  expect(screen()).toBe('abc');
  expect(p.at).toBe(2);
});

test('a long silence is cut where that is asked for', () => {
  const { player: p, screen } = player(2);
  p.play(0);
  p.tick(2000);
  p.tick(2500);
  expect(p.at).toBeGreaterThanOrEqual(58);
  p.tick(4100);
  expect(screen()).toBe('abcd');
  expect(p.playing).toBe(false);
});

test('moving in time shows the screen of that time, back as well', () => {
  const { player: p, screen } = player();
  p.seek(59);
  expect(screen()).toBe('abc');
  p.seek(1.5);
  expect(screen()).toBe('a');
  p.seek(500);
  expect(screen()).toBe('abcd');
  expect(p.at).toBe(60);
  p.play(0);
  expect(screen()).toBe('');
});
