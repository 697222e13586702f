// What is pasted: whether to ask first, and how it is cut for the wire. Bytes leave as they were pasted, but
// for line ends, which a terminal's Enter key sends as CR.

/** Shown and asked about before it is sent. One line without its end is typing; all else can run commands. */
export function needsAsking(text: string): boolean {
  return /[\r\n]/.test(text) || text.length > ASK_BEYOND || hasControls(text);
}

export function hasControls(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if ((code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) || code === 0x7f) return true;
  }
  return text.search(UNSEEN) >= 0;
}

/** Within the marks of a bracketed paste. An end mark in it, or one that comes about when that is taken out,
 * would let the rest be taken for typing. */
export function bracketed(text: string): string {
  return `\x1b[200~${text.includes(END) ? withoutEnds(text) : text}${END}`;
}

/** In one pass, however marks are put into each other: what comes about ends at a `~` that is yet to come. */
function withoutEnds(text: string): string {
  const kept: string[] = [];
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charAt(i);
    kept.push(unit);
    if (unit === '~' && kept.slice(-END.length).join('') === END) kept.length -= END.length;
  }
  return kept.join('');
}

/** As a terminal sends it: each line end is one CR. */
export function asTyped(text: string): Uint8Array {
  return new TextEncoder().encode(text.replace(/\r\n|\n/g, '\r'));
}

export interface Shape {
  readonly lines: number;
  readonly bytes: number;
  readonly controls: boolean;
}

export function shape(text: string): Shape {
  const lines = text.replace(/\r\n|\r/g, '\n').replace(/\n$/, '').split('\n').length;
  return { lines, bytes: asTyped(text).length, controls: hasControls(text) };
}

/** True if `shown` leaves out the end of it. */
export const isCut = (text: string): boolean => text.length > SHOWN;

/** Control characters made visible (U+2400 and on), so that what is shown is what is sent. */
export function shown(text: string, most = SHOWN): string {
  const cut = text.length > most ? text.slice(0, most) : text;
  return cut
    .replace(/\r\n|\r/g, '\n')
    .replace(/[\x00-\x08\x0b-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\x7f/g, '\u2421')
    .replace(UNSEEN, (c) => `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}\u27e9`);
}

/** Cut into pieces of at most `size` bytes. */
export function* pieces(bytes: Uint8Array, size = PIECE): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const END = '\x1b[201~';
/** What shows nothing and does something: the other control characters, and what turns the order round in which
 * text is shown, or is no width. */
const UNSEEN = /[\x80-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
/** One line longer than this is no password and no command. */
const ASK_BEYOND = 2000;
/** As much of a paste as its dialog shows. */
const SHOWN = 20_000;
/** Small enough that a break or a lost link stops a paste soon, large enough to cost little. */
export const PIECE = 4096;
