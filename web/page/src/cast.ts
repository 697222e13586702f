// Recordings in asciicast v2: a line with the size of the terminal, then lines of `[seconds, "o", text]`. A
// player goes through one by a clock that it is given; it knows no terminal.

export interface Cast {
  readonly cols: number;
  readonly rows: number;
  /** Seconds since 1970, where the recording says so. */
  readonly began: number | null;
  readonly events: ReadonlyArray<{ readonly at: number; readonly text: string }>;
  readonly length: number;
}

/** Lines that are none of ours are passed over; a first line that is no header is a fault. */
export function parseCast(text: string): Cast {
  const lines = text.split('\n');
  let header: Record<string, unknown> | null = null;
  try {
    header = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  } catch {
    // Said below.
  }
  if (header === null || typeof header !== 'object' || header['version'] !== 2) {
    throw new Error('This is no recording that the page can play (asciicast 2).');
  }
  const events: Array<{ at: number; text: string }> = [];
  let last = 0;
  for (const line of lines.slice(1)) {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      continue;
    }
    if (!Array.isArray(value) || value[1] !== 'o') continue;
    const [at, , out] = value as unknown[];
    if (typeof at !== 'number' || !Number.isFinite(at) || typeof out !== 'string') continue;
    // Time does not go back.
    last = Math.max(last, at);
    events.push({ at: last, text: out });
  }
  const size = (value: unknown, otherwise: number): number =>
    typeof value === 'number' && value >= 1 && value <= 500 ? Math.floor(value) : otherwise;
  const began = header['timestamp'];
  return {
    cols: size(header['width'], 80),
    rows: size(header['height'], 24),
    began: typeof began === 'number' ? began : null,
    events,
    length: last,
  };
}

export interface Screen {
  reset(): void;
  write(text: string): void;
}

export class Player {
  /** Seconds into the recording. */
  at = 0;
  playing = false;
  speed = 1;
  #next = 0;
  #then = 0;

  constructor(
    readonly cast: Cast,
    private readonly screen: Screen,
    /** Silence longer than this is cut to it; 0: as it was. */
    public idle = 0,
  ) {}

  play(now: number): void {
    if (this.at >= this.cast.length) this.seek(0);
    this.playing = true;
    this.#then = now;
  }

  pause(): void {
    this.playing = false;
  }

  /** Goes on to where it is at `now` (ms); to be called on each frame. */
  tick(now: number): void {
    if (!this.playing) return;
    let left = (Math.max(0, now - this.#then) / 1000) * this.speed;
    this.#then = now;
    const { events, length } = this.cast;
    let text = '';
    for (;;) {
      const next = events[this.#next];
      if (next === undefined) {
        this.at = length;
        this.playing = false;
        break;
      }
      if (this.idle > 0 && next.at - this.at > this.idle) this.at = next.at - this.idle;
      const gap = next.at - this.at;
      if (gap > left) {
        this.at += left;
        break;
      }
      left -= gap;
      this.at = next.at;
      text += next.text;
      this.#next += 1;
    }
    if (text !== '') this.screen.write(text);
  }

  /** The screen as it was at that second. */
  seek(to: number): void {
    const at = Math.max(0, Math.min(this.cast.length, to));
    const { events } = this.cast;
    if (at < this.at || this.#next === 0) {
      this.screen.reset();
      this.#next = 0;
    }
    let text = '';
    while (this.#next < events.length && events[this.#next]!.at <= at) {
      text += events[this.#next]!.text;
      this.#next += 1;
    }
    this.at = at;
    if (text !== '') this.screen.write(text);
  }
}
