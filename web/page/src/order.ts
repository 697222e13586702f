// The order of the list, and what the filter leaves of it.

import type { Fleet, Row } from './fleet';
import { matches, parseFilter } from './filter';

export type SortBy = 'name' | 'state' | 'server' | 'host' | 'port' | 'clients' | 'rate';

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });
const byName = (a: Row, b: Row): number =>
  collator.compare(a.name, b.name) || collator.compare(a.server, b.server) || (a.id < b.id ? -1 : 1);

const rank = (state: string): number => ['moving', 'connected', 'waiting'].indexOf(state);

export class Order {
  /** All rows' keys by name; sorting ten thousand names takes longer than a frame, so it is kept. */
  #names: string[] = [];
  #membership = -1;

  constructor(private readonly fleet: Fleet) {}

  view(filter: string, by: SortBy, down: boolean, now: number): Row[] {
    if (this.#membership !== this.fleet.membership) {
      this.#membership = this.fleet.membership;
      this.#names = [...this.fleet.consoles.values()].sort(byName).map((row) => row.key);
    }
    const words = parseFilter(filter);
    const rows: Row[] = [];
    for (const key of this.#names) {
      const row = this.fleet.consoles.get(key);
      if (row !== undefined && (words.length === 0 || matches(words, row, row.hay))) rows.push(row);
    }
    // The sort is stable: rows that are equal stand by name.
    const compare = comparison(by, now);
    if (compare !== null) rows.sort(down ? (a, b) => compare(b, a) : compare);
    else if (down) rows.reverse();
    return rows;
  }
}

function comparison(by: SortBy, now: number): ((a: Row, b: Row) => number) | null {
  switch (by) {
    case 'name':
      return null;
    case 'state':
      return (a, b) => rank(a.state) - rank(b.state);
    case 'server':
      return (a, b) => text(a.server, b.server);
    case 'host':
      return (a, b) => text(a.host ?? '', b.host ?? '');
    case 'port':
      return (a, b) => (a.port ?? 65_536) - (b.port ?? 65_536);
    case 'clients':
      return (a, b) => b.clients - a.clients;
    case 'rate': {
      const rates = new Map<string, number>();
      const rate = (row: Row): number => {
        let known = rates.get(row.key);
        if (known === undefined) rates.set(row.key, (known = row.rates.rate(now)));
        return known;
      };
      return (a, b) => rate(b) - rate(a);
    }
  }
}

/** Plain comparison: these are addresses and short words, and there may be ten thousand. */
const text = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
