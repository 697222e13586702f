import { expect, test } from 'vitest';
import { type Filterable, haystack, matches, parseFilter } from '../../src/filter';

const vm = (over: Partial<Filterable> = {}): Filterable => ({
  name: 'Web01',
  server: 'east',
  uuid: '564d0123456789abcdef0123456789ab',
  host: '192.0.2.11',
  port: 50001,
  state: 'connected',
  lock: null,
  lastLine: 'login:',
  ...over,
});
const passes = (typed: string, c: Filterable): boolean => matches(parseFilter(typed), c, haystack(c));

test('nothing typed lets everything through', () => {
  expect(passes('', vm())).toBe(true);
  expect(passes('   ', vm())).toBe(true);
});

test('every word has to be found, in any field, whatever its case', () => {
  expect(passes('WEB east', vm())).toBe(true);
  expect(passes('web west', vm())).toBe(false);
  expect(passes('0.2.11', vm())).toBe(true);
  expect(passes('50001', vm())).toBe(true);
  expect(passes('564d01', vm())).toBe(true);
});

test('a field looks at one thing alone', () => {
  expect(passes('name:east', vm())).toBe(false);
  expect(passes('server:east', vm())).toBe(true);
  expect(passes('state:moving', vm())).toBe(false);
  expect(passes('state:mov', vm({ state: 'moving' }))).toBe(true);
  expect(passes('lock:none', vm())).toBe(true);
  expect(passes('lock:ann', vm({ lock: { mode: 'write', by: 'ann@192.0.2.7' } }))).toBe(true);
  expect(passes('line:LOGIN', vm())).toBe(true);
  expect(passes('login', vm())).toBe(false);
});

test('a field without a value asks for nothing yet, and an unknown one is a word', () => {
  expect(passes('state:', vm())).toBe(true);
  expect(passes('colour:red', vm())).toBe(false);
  expect(passes('a:b', vm({ name: 'a:b' }))).toBe(true);
});

test('a dash turns a word round', () => {
  expect(passes('-web', vm())).toBe(false);
  expect(passes('-state:waiting', vm())).toBe(true);
  expect(passes('-', vm({ name: 'db-1' }))).toBe(true);
});

test('fields do not run into each other', () => {
  expect(passes('web01east', vm())).toBe(false);
});
