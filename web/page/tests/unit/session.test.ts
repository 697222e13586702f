import { expect, test } from 'vitest';
import { Backoff } from '../../src/backoff';
import { Session, type Socket } from '../../src/session';

class FakeSocket implements Socket {
  binaryType = '';
  bufferedAmount = 0;
  protocol = 'vspc.v1';
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  readonly sent: Array<string | Uint8Array> = [];
  closed = false;
  constructor(readonly query: Record<string, string>) {}
  send(data: string | Uint8Array): void {
    this.sent.push(typeof data === 'string' ? data : data.slice());
    if (typeof data !== 'string') this.bufferedAmount += data.length;
  }
  close(): void {
    this.closed = true;
  }
  json(value: unknown): void {
    this.onmessage?.({ data: JSON.stringify(value) } as MessageEvent);
  }
  bytes(text: string): void {
    this.onmessage?.({ data: new TextEncoder().encode(text).buffer } as MessageEvent);
  }
  fail(code = 1006, reason = ''): void {
    this.onclose?.({ code, reason });
  }
  get typed(): Uint8Array {
    const parts = this.sent.filter((one): one is Uint8Array => typeof one !== 'string');
    return Uint8Array.from(parts.flatMap((part) => [...part]));
  }
  get said(): unknown[] {
    return this.sent.filter((one): one is string => typeof one === 'string').map((one) => JSON.parse(one) as unknown);
  }
}

function setUp(why = ''): {
  session: Session;
  sockets: FakeSocket[];
  log: string[];
  shown: () => void;
  pass: () => number[];
  /** How often the gateway was asked why. */
  asked: () => number;
} {
  let asked = 0;
  const sockets: FakeSocket[] = [];
  const log: string[] = [];
  const done: Array<() => void> = [];
  let timers: Array<{ ms: number; act: () => void }> = [];
  const session = new Session(
    { lock: 'free-for-all-fallback', scrollback: 4096 },
    {
      output: (bytes, ready) => {
        log.push(new TextDecoder().decode(bytes));
        done.push(ready);
      },
      restarted: () => log.push('<restarted>'),
      missed: (n) => log.push(`<missed ${n}>`),
      refused: (why) => log.push(`<refused ${why}>`),
      changed: () => undefined,
    },
    {
      open: (query) => {
        const socket = new FakeSocket(query);
        sockets.push(socket);
        return socket;
      },
      why: () => {
        asked += 1;
        return Promise.resolve(why);
      },
      after: (ms, act) => {
        const timer = { ms, act };
        timers.push(timer);
        return () => (timers = timers.filter((one) => one !== timer));
      },
    },
    new Backoff(() => 1),
  );
  return {
    session,
    asked: () => asked,
    sockets,
    log,
    shown: () => done.splice(0).forEach((ready) => ready()),
    pass: () => timers.splice(0).map(({ ms, act }) => (act(), ms)),
  };
}

const attached = (offset: number, more: object = {}): object => ({
  event: 'attached',
  console: { state: 'connected', host: '192.0.2.1', clients: 1, offset },
  access: 'write',
  lock: 'free-for-all',
  epoch: 'e1',
  offset,
  ...more,
});

test('a link that is lost goes on at the byte at which it was cut', () => {
  const { session, sockets, log, pass } = setUp();
  expect(sockets[0]!.query).toEqual({ lock: 'free-for-all-fallback', scrollback: '4096' });
  sockets[0]!.json(attached(100));
  sockets[0]!.bytes('hello');
  sockets[0]!.fail();
  expect(session.phase).toBe('lost');
  expect(session.access).toBe('read');
  expect(pass()).toEqual([500]);
  expect(sockets[1]!.query).toEqual({ lock: 'free-for-all-fallback', epoch: 'e1', offset: '105' });
  sockets[1]!.json(attached(105));
  sockets[1]!.bytes(' again');
  expect(log).toEqual(['hello', ' again']);
  expect(session.phase).toBe('open');
});

test('what was skipped counts for the place to go on at', () => {
  const { sockets, log, pass } = setUp();
  sockets[0]!.json(attached(0));
  sockets[0]!.json({ event: 'missed', bytes: 1000, offset: 1000 });
  sockets[0]!.bytes('abc');
  sockets[0]!.fail();
  pass();
  expect(sockets[1]!.query['offset']).toBe('1003');
  expect(log).toEqual(['<missed 1000>', 'abc']);
});

test('where the server counts anew, the screen is told that it begins anew', () => {
  const { sockets, log, pass } = setUp();
  sockets[0]!.json(attached(100));
  sockets[0]!.fail();
  pass();
  sockets[1]!.json({ event: 'error', code: 'gone', message: 'not kept' });
  expect(log).toEqual(['<restarted>']);
  expect(sockets[2]!.query).toEqual({ lock: 'free-for-all-fallback', scrollback: '4096' });
});

test('waits grow while it stays down, and begin anew once it has held', () => {
  const { sockets, pass } = setUp();
  const waits: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    sockets.at(-1)!.fail();
    waits.push(...pass());
  }
  sockets.at(-1)!.json(attached(0));
  sockets.at(-1)!.fail();
  waits.push(...pass());
  expect(waits).toEqual([500, 1000, 2000, 500]);
});

test('who is sent away does not come back by itself, and may ask to', () => {
  const { session, sockets, pass } = setUp();
  sockets[0]!.json(attached(0));
  sockets[0]!.json({ event: 'detached', reason: 'bumped', by: 'ann', message: 'my turn' });
  expect(session.phase).toBe('ended');
  expect(session.message).toBe('ann sent you away: my turn');
  expect(sockets[0]!.closed).toBe(true);
  expect(pass()).toEqual([]);
  session.retry();
  expect(sockets.length).toBe(2);
});

test('a policy is told of in words, is not tried again, and the gateway is asked whether it knows us still', () => {
  const { session, sockets, pass, asked } = setUp();
  sockets[0]!.fail(1008, 'the session has ended: log in again');
  expect(session.phase).toBe('ended');
  expect(session.message).toBe('The session has ended: log in again.');
  expect(pass()).toEqual([]);
  expect(asked()).toBe(1);
});

test('a paste of 100 kB leaves whole, in order, as the socket takes it', () => {
  const { session, sockets, pass } = setUp();
  sockets[0]!.json(attached(0));
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251);
  expect(session.type(bytes)).toBe(true);
  const first = sockets[0]!.typed.length;
  expect(first).toBeLessThanOrEqual(20 * 1024);
  pass();
  expect(sockets[0]!.typed.length).toBe(first);
  session.type(new Uint8Array([1, 2, 3]));
  while (session.sending > 0) {
    sockets[0]!.bufferedAmount = 0;
    pass();
  }
  expect([...sockets[0]!.typed]).toEqual([...bytes, 1, 2, 3]);
});

test('a paste stops when it is told to, and when the link is lost: none of it is typed later', () => {
  const { session, sockets, pass } = setUp();
  sockets[0]!.json(attached(0));
  session.type(new Uint8Array(100_000));
  sockets[0]!.fail();
  expect(session.sending).toBe(0);
  pass();
  sockets[1]!.json(attached(0));
  pass();
  expect(sockets[1]!.typed.length).toBe(0);
});

test('nothing is typed without the right, or while the link is lost', () => {
  const { session, sockets } = setUp();
  expect(session.type(new Uint8Array([1]))).toBe(false);
  sockets[0]!.json(attached(0, { access: 'read', lock: 'read-only' }));
  expect(session.type(new Uint8Array([1]))).toBe(false);
  sockets[0]!.json({ event: 'access', access: 'write', lock: 'free-for-all' });
  expect(session.type(new Uint8Array([1]))).toBe(true);
});

test('credit is given back for what was shown, and only then', () => {
  const { sockets, shown } = setUp();
  sockets[0]!.json(attached(0));
  sockets[0]!.bytes('x'.repeat(20_000));
  expect(sockets[0]!.said).toEqual([]);
  shown();
  expect(sockets[0]!.said).toEqual([{ op: 'consumed', bytes: 20_000 }]);
});

test('what was printed before is known from what is printed now, until all of it was shown', () => {
  const { session, sockets, shown } = setUp();
  sockets[0]!.json({ ...attached(0), console: { offset: 5 } });
  sockets[0]!.bytes('older');
  expect(session.replaying).toBe(true);
  // A terminal that is behind still has the older to show.
  sockets[0]!.bytes('now');
  expect(session.replaying).toBe(true);
  shown();
  expect(session.replaying).toBe(false);
  sockets[0]!.bytes('later');
  expect(session.replaying).toBe(false);
});

test('a lock is asked for again after a cut; where somebody took it meanwhile, what can be had is', () => {
  const { session, sockets, pass } = setUp();
  sockets[0]!.json(attached(0));
  session.ask('exclusive');
  sockets[0]!.fail();
  pass();
  expect(sockets[1]!.query['lock']).toBe('exclusive');
  sockets[1]!.json({ event: 'error', code: 'locked', message: 'bob has it' });
  expect(sockets[2]!.query['lock']).toBe('free-for-all-fallback');
  sockets[2]!.json({ event: 'error', code: 'locked', message: 'bob has it' });
  expect(session.phase).toBe('ended');
  expect(session.message).toBe('bob has it');
});

test('who got less than he asked for asks for as much again', () => {
  const { sockets, pass } = setUp();
  sockets[0]!.json(attached(0, { access: 'read', lock: 'read-only' }));
  sockets[0]!.fail();
  pass();
  expect(sockets[1]!.query['lock']).toBe('free-for-all-fallback');
});

test('a lock that is refused is told of, and the console stays', () => {
  const { session, sockets, log } = setUp();
  sockets[0]!.json(attached(0));
  session.ask('write');
  sockets[0]!.json({ event: 'error', code: 'locked', message: 'bob has it' });
  expect(log).toEqual(['<refused bob has it>']);
  expect(session.phase).toBe('open');
});

test('why a socket did not open is asked, as a browser does not tell', async () => {
  const { session, sockets } = setUp('There is no such console.');
  sockets[0]!.fail();
  expect(session.phase).toBe('lost');
  await Promise.resolve();
  await Promise.resolve();
  expect(session.message).toBe('There is no such console.');
});

test('words that are no notice are passed over', () => {
  const { session, sockets } = setUp();
  sockets[0]!.onmessage?.({ data: 'not json' } as MessageEvent);
  sockets[0]!.onmessage?.({ data: 'null' } as MessageEvent);
  sockets[0]!.json({ event: 'of-tomorrow', x: 1 });
  sockets[0]!.json(attached(0));
  expect(session.phase).toBe('open');
});

test('the size of the terminal is told once it is known and when there is a socket, and each change of it', () => {
  const { session, sockets, pass } = setUp();
  session.resize(24, 80);
  const first = sockets[0]!;
  expect(first.said).toEqual([]);
  first.json(attached(0));
  session.resize(24, 80);
  session.resize(50, 132);
  const told = (rows: number, cols: number): unknown => ({ op: 'resize', size: { rows, cols } });
  expect(first.said).toEqual([told(24, 80), told(50, 132)]);
  first.fail();
  pass();
  sockets[1]!.json(attached(0));
  expect(sockets[1]!.said).toEqual([told(50, 132)]);
});
