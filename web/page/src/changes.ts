// The live list: server-sent events of /api/v1/changes, into the fleet's table. A lost link is tried again,
// and what was known stays.

import { consoleFrom, number, serverFrom, text } from './api';
import { Backoff } from './backoff';
import { type Fleet, keyOf } from './fleet';

export type Link = 'connecting' | 'live' | 'lost';

export class Changes {
  #source: EventSource | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #backoff = new Backoff();
  #over = false;
  state: Link = 'connecting';

  constructor(
    private readonly fleet: Fleet,
    private readonly told: (state: Link) => void,
  ) {
    // A link from before the network changed may be dead and not know it.
    addEventListener('online', () => this.start());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#soon();
    });
  }

  start(): void {
    if (this.#over) return;
    clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource('api/v1/changes?with=last_line');
    this.#source = source;
    source.addEventListener('snapshot', () => this.fleet.begin());
    this.#on(source, 'console', (raw) => {
      const console = consoleFrom(raw);
      if (console !== null) this.fleet.put(console);
    });
    this.#on(source, 'console-gone', (raw) => this.fleet.gone(text(raw['server']), text(raw['id'])));
    this.#on(source, 'count', (raw) => {
      for (const one of Array.isArray(raw['counts']) ? raw['counts'] : [raw]) this.#count(one);
    });
    this.#on(source, 'server', (raw) => {
      const server = serverFrom(raw);
      if (server !== null) this.fleet.server(server);
    });
    source.addEventListener('synced', () => {
      this.fleet.synced();
      performance.mark('synced');
      this.#backoff.reset();
      this.#tell('live');
    });
    source.addEventListener('error', () => {
      source.close();
      if (source !== this.#source) return;
      this.#tell('lost');
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.start(), this.#backoff.next());
    });
  }

  /** For good. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#over = true;
  }

  #count(raw: Record<string, unknown>): void {
    const key = keyOf(text(raw['server']), text(raw['id']));
    this.fleet.count(key, number(raw['out']) ?? 0, number(raw['idle_ms']), raw['last_line']);
  }

  #on(source: EventSource, name: string, act: (raw: Record<string, unknown>) => void): void {
    source.addEventListener(name, (event) => {
      let raw: unknown;
      try {
        raw = JSON.parse((event as MessageEvent<string>).data);
      } catch {
        return;
      }
      if (typeof raw === 'object' && raw !== null) act(raw as Record<string, unknown>);
    });
  }

  /** The network or the user is back: do not sit out the wait. */
  #soon(): void {
    if (this.state === 'lost') this.start();
  }

  #tell(state: Link): void {
    this.state = state;
    this.told(state);
  }
}
