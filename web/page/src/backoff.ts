// How long to wait before a lost link is tried again: soon at first, then ever less often, and never all pages
// at one moment after a gateway has restarted.

export class Backoff {
  #tries = 0;

  constructor(
    private readonly chance: () => number = Math.random,
    private readonly leastMs = 500,
    private readonly mostMs = 20_000,
  ) {}

  /** The wait before the next try, between half and the whole of a step that doubles. */
  next(): number {
    const step = Math.min(this.mostMs, this.leastMs * 2 ** Math.min(this.#tries, 20));
    this.#tries += 1;
    return Math.round(step / 2 + (step / 2) * this.chance());
  }

  get tries(): number {
    return this.#tries;
  }

  /** A link that has held is trusted again. */
  reset(): void {
    this.#tries = 0;
  }
}
