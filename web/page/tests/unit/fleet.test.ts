import { expect, test } from 'vitest';
import { type Console, Fleet, keyOf } from '../../src/fleet';
import { Order } from '../../src/order';

const vm = (id: string, over: Partial<Console> = {}): Console => ({
  server: 'east',
  id,
  name: `vm${id}`,
  uuid: '',
  port: null,
  state: 'connected',
  sinceMs: 0,
  host: null,
  clients: 0,
  lock: null,
  idleMs: null,
  out: 0,
  lastLine: '',
  ...over,
});

function fleet(): { fleet: Fleet; tell: () => void; clock: { now: number } } {
  const waiting: Array<() => void> = [];
  const clock = { now: 100_000 };
  const made = new Fleet(() => clock.now, (tell) => waiting.push(tell));
  return { fleet: made, clock, tell: () => waiting.splice(0).forEach((f) => f()) };
}

test('a new snapshot takes away what it does not name, and not before it is complete', () => {
  const { fleet: f } = fleet();
  f.begin();
  f.put(vm('1'));
  f.put(vm('2'));
  f.synced();
  f.begin();
  f.put(vm('2'));
  expect(f.consoles.size).toBe(2);
  f.synced();
  expect([...f.consoles.keys()]).toEqual([keyOf('east', '2')]);
});

test('consoles of a server that is down stay, and are known to be old', () => {
  const { fleet: f } = fleet();
  f.begin();
  f.put(vm('1'));
  f.put(vm('1', { server: 'west' }));
  f.synced();
  f.server({ name: 'west', up: false, message: 'connection refused', guests: false });
  f.begin();
  f.put(vm('1'));
  f.synced();
  expect(f.consoles.size).toBe(2);
  expect(f.stale(vm('1', { server: 'west' }))).toBe(true);
  expect(f.stale(vm('1'))).toBe(false);
});

test('equal ids of two servers are two consoles', () => {
  const { fleet: f } = fleet();
  f.put(vm('1'));
  f.put(vm('1', { server: 'west' }));
  f.gone('west', '1');
  expect([...f.consoles.values()].map((row) => row.server)).toEqual(['east']);
});

test('many changes are told once', () => {
  const { fleet: f, tell } = fleet();
  let told = 0;
  f.listen(() => (told += 1));
  for (let i = 0; i < 100; i += 1) f.put(vm(String(i)));
  tell();
  expect(told).toBe(1);
  f.put(vm('7', { state: 'moving' }));
  tell();
  expect(told).toBe(2);
});

test('names stand in the order of their numbers, also after a rename', () => {
  const { fleet: f } = fleet();
  const order = new Order(f);
  for (const name of ['web10', 'web2', 'Web1']) f.put(vm(name, { name }));
  const names = (): string[] => order.view('', 'name', false, 0).map((row) => row.name);
  expect(names()).toEqual(['Web1', 'web2', 'web10']);
  f.put(vm('web2', { name: 'zeta' }));
  expect(names()).toEqual(['Web1', 'web10', 'zeta']);
});

test('what prints most can stand first', () => {
  const { fleet: f, clock } = fleet();
  const order = new Order(f);
  for (const id of ['1', '2', '3']) f.put(vm(id));
  clock.now += 2000;
  f.count(keyOf('east', '2'), 9000, 0, 'x');
  f.count(keyOf('east', '3'), 100, 0, 'y');
  expect(order.view('', 'rate', false, clock.now).map((row) => row.id)).toEqual(['2', '3', '1']);
});

