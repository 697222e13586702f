// One console's websocket, subprotocol vspc.v1 (docs/web.md): guest bytes in binary frames, notices and
// requests in text frames. It comes back by itself, at the byte at which it was cut off; it knows no terminal.
//
//   connecting → open → lost → connecting …        and from each: ended (told to leave, or closed by the user)

import { Backoff } from './backoff';
import { lockFrom, number, text } from './api';
import { pieces } from './paste';
import { sentence } from './words';
import type { Lock } from './fleet';

export type Phase = 'connecting' | 'open' | 'lost' | 'ended';

/** The part of a WebSocket that is used here. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly protocol: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

export interface Told {
  /** Bytes to be shown; `done` is called once they are, and gives their credit back. */
  output(bytes: Uint8Array, done: () => void): void;
  /** What is shown ends here: output begins anew, and something may be missing. */
  restarted(): void;
  missed(bytes: number): void;
  /** Something that was asked for is not to be had. */
  refused(why: string): void;
  changed(): void;
}

export interface Start {
  /** Empty: to write, or to watch where that is all that one may. */
  readonly lock: string;
  readonly scrollback: number;
}

export interface World {
  open(query: Record<string, string>): Socket;
  after(ms: number, act: () => void): () => void;
  /** Why a socket did not open, in words; a browser does not tell. Empty: that is not known. */
  why(): Promise<string>;
}

export class Session {
  phase: Phase = 'connecting';
  access: 'write' | 'read' = 'read';
  lock = '';
  held: Lock | null = null;
  state = '';
  host = '';
  clients = 0;
  /** Why it ended or is lost, for a person. */
  message = '';
  /** What remains of a paste, in bytes. */
  sending = 0;

  /** Pieces of what was kept that were not shown yet. */
  #replayed = 0;
  #socket: Socket | null = null;
  #epoch = '';
  #offset = 0;
  #live = 0;
  #size: { rows: number; cols: number } | null = null;
  #attached = false;
  /** The lock that the user asked for, which is not always the one that is had. */
  #want: string;
  #consumed = 0;
  #queue: Uint8Array[] = [];
  #cancel: () => void = () => undefined;
  #poll: (() => void) | null = null;
  readonly #backoff: Backoff;

  constructor(
    private readonly start: Start,
    private readonly told: Told,
    private readonly world: World,
    backoff = new Backoff(),
  ) {
    this.#backoff = backoff;
    this.#want = start.lock;
    this.#connect();
  }

  /** True while what was kept is being shown: a terminal must not answer what it finds there. */
  get replaying(): boolean {
    return this.#replayed > 0;
  }

  /** Types. False if nothing can be typed now: the bytes are dropped, as the server would. */
  type(bytes: Uint8Array): boolean {
    if (this.phase !== 'open' || this.access !== 'write') return false;
    for (const piece of pieces(bytes)) this.#queue.push(piece);
    this.sending += bytes.length;
    this.#pump();
    return true;
  }

  /** Drops what of a paste has not left yet. */
  stopSending(): void {
    this.#queue = [];
    this.sending = 0;
    this.told.changed();
  }

  ask(mode: string): void {
    this.#want = mode;
    this.#say({ op: 'lock', mode });
  }

  sendBreak(): void {
    this.#say({ op: 'break' });
  }

  /** The terminal has this size: a shell of a guest's becomes as large. */
  resize(rows: number, cols: number): void {
    if (this.#size?.rows === rows && this.#size.cols === cols) return;
    this.#size = { rows, cols };
    this.#tellSize();
  }

  #tellSize(): void {
    if (this.#size !== null) this.#say({ op: 'resize', size: this.#size });
  }

  retry(): void {
    if (this.phase !== 'lost' && this.phase !== 'ended') return;
    this.#cancel();
    this.#connect();
  }

  close(): void {
    this.#end('');
  }

  #connect(): void {
    const query: Record<string, string> = {};
    if (this.#want !== '') query['lock'] = this.#want;
    if (this.#epoch !== '') {
      query['epoch'] = this.#epoch;
      query['offset'] = String(this.#offset);
    } else {
      query['scrollback'] = String(this.start.scrollback);
    }
    this.phase = 'connecting';
    this.#attached = false;
    const socket = this.world.open(query);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      if (typeof event.data === 'string') this.#notice(event.data);
      else this.#bytes(new Uint8Array(event.data as ArrayBuffer));
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(event);
    };
    this.told.changed();
  }

  #bytes(bytes: Uint8Array): void {
    this.#offset += bytes.length;
    // A terminal shows later what it is given now: what came live meanwhile waits behind what was kept.
    const replayed = this.#offset - bytes.length < this.#live ? 1 : 0;
    this.#replayed += replayed;
    const socket = this.#socket;
    this.told.output(bytes, () => {
      this.#replayed -= replayed;
      this.#shown(socket, bytes.length);
    });
  }

  /** The gateway sends no more than its window beyond what was shown: a busy page slows its own reader. */
  #shown(socket: Socket | null, n: number): void {
    if (socket !== this.#socket || this.phase !== 'open') return;
    this.#consumed += n;
    if (this.#consumed < ACKNOWLEDGE) return;
    this.#say({ op: 'consumed', bytes: this.#consumed });
    this.#consumed = 0;
  }

  #notice(line: string): void {
    let value: Record<string, unknown> | null;
    try {
      value = JSON.parse(line) as Record<string, unknown> | null;
    } catch {
      return;
    }
    if (value === null || typeof value !== 'object') return;
    switch (value['event']) {
      case 'attached':
        this.#begin(value);
        break;
      case 'access':
        this.#access(value);
        break;
      case 'state':
        this.state = text(value['state']) || this.state;
        this.host = text(value['host']);
        break;
      case 'present':
        this.clients = number(value['clients']) ?? this.clients;
        break;
      case 'missed':
        this.#offset += number(value['bytes']) ?? 0;
        this.told.missed(number(value['bytes']) ?? 0);
        break;
      case 'error':
        this.#error(text(value['code']), text(value['message']));
        break;
      case 'detached':
        this.#end(detached(value));
        return;
    }
    this.told.changed();
  }

  #begin(value: Record<string, unknown>): void {
    const console = (value['console'] ?? {}) as Record<string, unknown>;
    const epoch = text(value['epoch']);
    const offset = number(value['offset']) ?? 0;
    // Somebody else's count: what is on the screen is not what came before this.
    if (this.#epoch !== '' && (epoch !== this.#epoch || offset !== this.#offset)) this.told.restarted();
    this.#epoch = epoch;
    this.#offset = offset;
    // What was printed before we came is history; a terminal's answers to it would be typed to a stranger.
    this.#live = number(console['offset']) ?? offset;
    this.#attached = true;
    this.#consumed = 0;
    this.phase = 'open';
    this.message = '';
    this.#backoff.reset();
    this.#tellSize();
    this.state = text(console['state']) || this.state;
    this.host = text(console['host']);
    this.clients = number(console['clients']) ?? this.clients;
    this.#access({ held: console['lock'], ...value });
  }

  #access(value: Record<string, unknown>): void {
    this.access = value['access'] === 'write' ? 'write' : 'read';
    this.lock = text(value['lock']) || this.lock;
    if ('held' in value) this.held = lockFrom(value['held']);
    if (this.access !== 'write') this.stopSending();
  }

  #error(code: string, message: string): void {
    if (code === 'gone') {
      this.#gone();
    } else if (this.#attached) {
      this.told.refused(message || 'The server refused that.');
    } else if (code === 'locked' && this.#want !== this.start.lock) {
      // Somebody else took the lock meanwhile: come back with what can be had.
      this.#want = this.start.lock;
      this.#drop();
      this.#connect();
    } else {
      this.#end(message || 'The console cannot be opened.');
    }
  }

  /** The server has no bytes at our place any more: take what there is. */
  #gone(): void {
    this.#epoch = '';
    this.told.restarted();
    this.#drop();
    this.#connect();
  }

  #lost(event: { code: number; reason: string }): void {
    this.#socket = null;
    if (this.phase === 'ended') return;
    this.stopSending();
    if (event.code === POLICY) {
      this.#end(sentence(event.reason) || 'The gateway does not allow this.');
      // Where it is of a login or a link that has ended, the page has more to give up than this console.
      void this.world.why();
      return;
    }
    this.phase = 'lost';
    this.access = 'read';
    this.message = event.reason;
    if (!this.#attached && event.reason === '') void this.#ask();
    this.#cancel = this.world.after(this.#backoff.next(), () => this.#connect());
    this.told.changed();
  }

  async #ask(): Promise<void> {
    const words = await this.world.why();
    if (this.phase !== 'lost' || words === '') return;
    this.message = words;
    this.told.changed();
  }

  #end(message: string): void {
    this.#cancel();
    this.phase = 'ended';
    this.access = 'read';
    this.message = message;
    this.stopSending();
    this.#drop();
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  #say(value: unknown): void {
    if (this.phase === 'open') this.#socket?.send(JSON.stringify(value));
  }

  /** Sends as much as the socket takes without holding more than a few pieces, and looks again soon. */
  #pump(): void {
    const socket = this.#socket;
    if (socket === null || this.phase !== 'open') return;
    while (this.#queue.length > 0 && socket.bufferedAmount < BUFFERED) {
      const piece = this.#queue.shift()!;
      socket.send(piece as Uint8Array<ArrayBuffer>);
      this.sending = Math.max(0, this.sending - piece.length);
    }
    if (this.#queue.length > 0 && this.#poll === null) {
      this.#poll = this.world.after(POLL_MS, () => {
        this.#poll = null;
        this.#pump();
        this.told.changed();
      });
    }
  }
}

function detached(value: Record<string, unknown>): string {
  const by = text(value['by']);
  const words = text(value['message']);
  switch (value['reason']) {
    case 'bumped':
      return `${by || 'Somebody'} sent you away${words === '' ? '.' : `: ${words}`}`;
    case 'kicked':
      return `An operator ended this${words === '' ? '.' : `: ${words}`}`;
    case 'expired':
      return 'The console is gone: its VM has been away for too long.';
    case 'lagged':
      return 'This reader was too slow, and the server ended it.';
    case 'no-right':
      return 'You may not use this console any more.';
    case 'shutting-down':
      return 'The server shuts down.';
    default:
      return words || 'The server ended this.';
  }
}

/** RFC 6455 §7.4.1: policy violation; trying again would meet the same policy. */
const POLICY = 1008;
/** A quarter of what a good window is (operator.md §1). */
const ACKNOWLEDGE = 16 * 1024;
/** Beyond this the rest of a paste waits here, where it can be stopped. */
const BUFFERED = 16 * 1024;
const POLL_MS = 20;
