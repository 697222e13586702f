// What is known of the consoles of all concentrators: one table, fed by a snapshot and by changes, kept when a
// link is lost. It knows no wire and no document.

import { haystack } from './filter';
import { Rates } from './rates';

export interface Lock {
  readonly mode: string;
  readonly by: string;
}

export interface Console {
  readonly server: string;
  readonly id: string;
  readonly name: string;
  readonly uuid: string;
  readonly port: number | null;
  readonly state: string;
  readonly sinceMs: number;
  readonly host: string | null;
  readonly clients: number;
  readonly lock: Lock | null;
  readonly idleMs: number | null;
  readonly out: number;
  readonly lastLine: string;
}

export interface Row extends Console {
  readonly key: string;
  readonly hay: string;
  /** Local time at which this was learnt, to which `sinceMs` and `idleMs` are relative. */
  readonly at: number;
  readonly rates: Rates;
}

export interface Server {
  readonly name: string;
  readonly up: boolean;
  /** Why it is down, in a sentence; empty when it is up. */
  readonly message: string;
  /** It speaks with agents in guests. */
  readonly guests: boolean;
}

export const keyOf = (server: string, id: string): string => `${server}\n${id}`;

export class Fleet {
  readonly consoles = new Map<string, Row>();
  readonly servers = new Map<string, Server>();
  #seen: Set<string> | null = null;
  #version = 0;
  #names = 0;
  #told = false;
  #toldAt = 0;
  readonly #listeners = new Set<() => void>();

  constructor(
    private readonly now: () => number,
    private readonly soon: (tell: () => void) => void,
  ) {}

  /** Rises with every change. */
  get version(): number {
    return this.#version;
  }

  /** Rises when a console came, went or was renamed: orders by name stand while it stays. */
  get membership(): number {
    return this.#names;
  }

  /** A snapshot begins: what it does not name is gone once it is complete, and stands until then. */
  begin(): void {
    this.#seen = new Set();
  }

  /** The snapshot is complete. What belongs to a server that is down is its last known, and stays. */
  synced(): void {
    const seen = this.#seen;
    this.#seen = null;
    if (seen === null) return;
    for (const [key, row] of this.consoles) {
      if (seen.has(key) || this.servers.get(row.server)?.up === false) continue;
      this.consoles.delete(key);
      this.#names += 1;
    }
    this.#changed();
  }

  put(console: Console): void {
    const key = keyOf(console.server, console.id);
    const old = this.consoles.get(key);
    const now = this.now();
    const rates = old?.rates ?? new Rates();
    rates.add(console.out, now);
    this.consoles.set(key, { ...console, key, hay: haystack(console), at: now, rates });
    this.#seen?.add(key);
    if (old === undefined || old.name !== console.name || old.server !== console.server) this.#names += 1;
    this.#changed();
  }

  /** Counters alone: how much a console has printed by now, and its last line where that is told. */
  count(key: string, out: number, idleMs: number | null, line?: unknown): void {
    const old = this.consoles.get(key);
    if (old === undefined) return;
    const now = this.now();
    old.rates.add(out, now);
    const sinceMs = old.sinceMs + (now - old.at);
    const lastLine = typeof line === 'string' ? line : old.lastLine;
    this.consoles.set(key, { ...old, out, idleMs, lastLine, sinceMs, at: now });
    this.#changed();
  }

  gone(server: string, id: string): void {
    if (!this.consoles.delete(keyOf(server, id))) return;
    this.#names += 1;
    this.#changed();
  }

  server(server: Server): void {
    this.servers.set(server.name, server);
    this.#changed();
  }

  /** True if what is known of a console may be old, because its server is down. */
  stale(row: Console): boolean {
    return this.servers.get(row.server)?.up === false;
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(): void {
    this.#version += 1;
    if (this.#told) return;
    // In a long snapshot the first rows are shown at once, and the rest in a few steps: each costs a sort.
    if (this.#seen !== null && this.#seen.size > FIRST && this.now() - this.#toldAt < STEP_MS) return;
    this.#toldAt = this.now();
    this.#told = true;
    this.soon(() => {
      this.#told = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

/** More than fill a screen. */
const FIRST = 100;
const STEP_MS = 500;
