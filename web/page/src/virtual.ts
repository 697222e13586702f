// Which rows of a long list stand in the window, and where a row has to be scrolled to. Numbers only; it knows
// no document.

export interface Slice {
  /** The first row to be drawn. */
  readonly first: number;
  /** One past the last. */
  readonly end: number;
}

/** The rows within `height` pixels from `top`, and some on either side so that a scroll finds them drawn. */
export function slice(count: number, row: number, top: number, height: number, spare = 6): Slice {
  if (count <= 0 || row <= 0) return { first: 0, end: 0 };
  const first = Math.floor(Math.max(0, top) / row);
  const end = Math.ceil((Math.max(0, top) + Math.max(0, height)) / row);
  return {
    first: Math.min(Math.max(0, first - spare), Math.max(0, count - 1)),
    end: Math.max(0, Math.min(count, end + spare)),
  };
}

/** The least change of `top` after which row `index` is seen whole. */
export function scrollTo(index: number, row: number, top: number, height: number): number {
  const begins = index * row;
  if (begins < top) return begins;
  if (begins + row > top + height) return Math.max(0, begins + row - height);
  return top;
}
