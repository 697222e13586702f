// How fast a console prints, from counts that come at uneven times: one figure for each of the last seconds.

export class Rates {
  readonly #steps = new Float64Array(STEPS);
  #step = 0;
  #last: { out: number; at: number } | null = null;

  /** `out` bytes in all by `at` (ms). A count that fell began again with the console's server. */
  add(out: number, at: number): void {
    const last = this.#last;
    this.#last = { out, at };
    this.#advance(at);
    if (last === null || at <= last.at) return;
    const bytes = out >= last.out ? out - last.out : out;
    // Spread over the steps since the last count: a burst that was counted late is no spike.
    const from = Math.max(Math.floor(last.at / STEP_MS) + 1, this.#step - STEPS + 1);
    const steps = Math.max(1, this.#step - from + 1);
    const first = Math.min(from, this.#step);
    for (let step = first; step <= this.#step; step += 1) this.#steps[step % STEPS]! += bytes / steps;
  }

  /** Bytes in each of the last steps, oldest first. */
  series(at: number): number[] {
    this.#advance(at);
    const series: number[] = [];
    for (let i = 1; i <= STEPS; i += 1) series.push(this.#steps[(this.#step + i) % STEPS]!);
    return series;
  }

  /** Bytes a second over the last few steps. */
  rate(at: number): number {
    const few = this.series(at).slice(-FEW);
    return few.reduce((sum, n) => sum + n, 0) / ((FEW * STEP_MS) / 1000);
  }

  #advance(at: number): void {
    const step = Math.floor(at / STEP_MS);
    if (this.#step === 0 || step - this.#step >= STEPS) {
      this.#steps.fill(0);
      this.#step = step;
      return;
    }
    while (this.#step < step) {
      this.#step += 1;
      this.#steps[this.#step % STEPS] = 0;
    }
  }
}

const STEP_MS = 2000;
/** A minute. */
export const STEPS = 30;
const FEW = 3;
