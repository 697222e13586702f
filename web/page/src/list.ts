// The list of consoles on the page: as many rows as are seen, drawn again when something changes. The list is
// one stop of the tab key; arrows or j and k move in it.

import { h, setAttr, setText, svg } from './dom';
import type { Fleet, Row } from './fleet';
import { Order, type SortBy } from './order';
import { STEPS } from './rates';
import { stateDot, stateWord } from './state';
import { scrollTo, slice } from './virtual';
import { bytes, duration, title } from './words';

export interface ListActs {
  open(row: Row, beside: boolean): void;
}

interface Drawn {
  readonly element: HTMLElement;
  readonly dot: HTMLElement;
  readonly name: HTMLElement;
  readonly server: HTMLElement;
  readonly host: HTMLElement;
  readonly port: HTMLElement;
  readonly clients: HTMLElement;
  readonly line: HTMLElement;
  readonly rate: HTMLElement;
  readonly spark: SVGElement;
  state: string;
}

const COLUMNS: ReadonlyArray<readonly [SortBy | null, string, string]> = [
  ['state', 'State', 'c-state'],
  ['name', 'Name', 'c-name'],
  ['server', 'Server', 'c-server'],
  ['host', 'Host', 'c-host'],
  ['port', 'Port', 'c-port'],
  ['clients', 'Clients', 'c-clients'],
  [null, 'Last output', 'c-line'],
  ['rate', 'Rate', 'c-rate'],
];

export class List {
  readonly element: HTMLElement;
  readonly box = h('div', { class: 'list-box', role: 'listbox', tabindex: '0', 'aria-label': 'Consoles' });
  readonly #inner = h('div', { class: 'list-inner', role: 'presentation' });
  readonly #head = h('div', { class: 'list-head' });
  readonly #empty = h('div', { class: 'empty', role: 'status' });
  readonly #order: Order;
  readonly #drawn = new Map<string, Drawn>();
  #rows: Row[] = [];
  #selected = '';
  #open = new Set<string>();
  #filter = '';
  #by: SortBy = 'name';
  #down = false;
  #row = 32;
  #frame = 0;
  #marked = false;
  /** What stands where rows would, while there are none. */
  emptyWords: () => Node[] = () => [];
  ondrawn: (shown: number) => void = () => undefined;

  constructor(
    private readonly fleet: Fleet,
    private readonly acts: ListActs,
  ) {
    this.#order = new Order(fleet);
    this.box.append(this.#inner);
    this.element = h('div', { class: 'list' }, this.#head, this.box, this.#empty);
    this.#heads();
    this.box.addEventListener('scroll', () => this.#draw(), { passive: true });
    this.box.addEventListener('keydown', (event) => this.key(event));
    this.box.addEventListener('click', (event) => this.#click(event));
    new ResizeObserver(() => this.#draw()).observe(this.box);
    fleet.listen(() => this.update());
    setInterval(() => {
      if (!document.hidden) this.update();
    }, 2000);
  }

  get rows(): readonly Row[] {
    return this.#rows;
  }

  get selected(): Row | undefined {
    return this.fleet.consoles.get(this.#selected);
  }

  set filter(typed: string) {
    this.#filter = typed;
    this.box.scrollTop = 0;
    this.update();
    if (!this.#rows.some((row) => row.key === this.#selected)) this.#selected = this.#rows[0]?.key ?? '';
    this.#draw();
  }

  set opened(keys: Iterable<string>) {
    this.#open = new Set(keys);
    this.#draw();
  }

  /** The filter and the order again; then what is seen of it. */
  update(): void {
    this.#rows = this.#order.view(this.#filter, this.#by, this.#down, Date.now());
    this.#draw();
  }

  select(key: string): void {
    this.#selected = key;
    this.#reveal();
  }

  /** True if the key meant something to the list. */
  key(event: KeyboardEvent): boolean {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.#row) - 1);
    const steps: Record<string, number> = {
      j: 1,
      ArrowDown: 1,
      k: -1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[event.key];
    if (step !== undefined) {
      const now = this.#rows.findIndex((row) => row.key === this.#selected);
      const to = now < 0 ? 0 : Math.max(0, Math.min(this.#rows.length - 1, now + step));
      this.#selected = this.#rows[to]?.key ?? '';
      this.#reveal();
    } else if (event.key === 'Enter' || (event.key === 'o' && this.selected !== undefined)) {
      if (this.selected !== undefined) this.acts.open(this.selected, event.shiftKey || event.key === 'o');
    } else return false;
    event.preventDefault();
    return true;
  }

  #reveal(): void {
    const index = this.#rows.findIndex((row) => row.key === this.#selected);
    if (index >= 0) this.box.scrollTop = scrollTo(index, this.#row, this.box.scrollTop, this.box.clientHeight);
    this.#draw();
  }

  #click(event: MouseEvent): void {
    const key = (event.target as Element).closest<HTMLElement>('[data-index]')?.dataset['index'];
    const row = key === undefined ? undefined : this.#rows[Number(key)];
    if (row === undefined) return;
    this.#selected = row.key;
    this.acts.open(row, event.ctrlKey || event.metaKey);
  }

  #heads(): void {
    const cells = COLUMNS.map(([by, words, name]) => {
      if (by === null) return h('span', { class: name }, words);
      const here = by === this.#by;
      const arrow = here ? (this.#down ? ' ↓' : ' ↑') : '';
      const sorted = here ? (this.#down ? ', sorted downwards' : ', sorted upwards') : '';
      const sort = (): void => {
        this.#down = here && !this.#down;
        this.#by = by;
        this.#heads();
        this.update();
        this.#head.querySelector<HTMLElement>(`.${name}`)?.focus();
      };
      const label = `Sort by ${words.toLowerCase()}${sorted}`;
      return h('button', { type: 'button', class: name, 'aria-label': label, onclick: sort }, words + arrow);
    });
    this.#head.replaceChildren(...cells);
  }

  #draw(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawNow();
    });
  }

  #drawNow(): void {
    const rows = this.#rows;
    this.#row = this.box.clientWidth < COMPACT ? 46 : 32;
    this.element.classList.toggle('compact', this.#row === 46);
    this.#empty.hidden = rows.length > 0;
    this.box.hidden = rows.length === 0;
    if (rows.length === 0) this.#empty.replaceChildren(...this.emptyWords());
    this.#inner.style.height = `${rows.length * this.#row}px`;
    const { first, end } = slice(rows.length, this.#row, this.box.scrollTop, this.box.clientHeight);
    const left = new Set(this.#drawn.keys());
    const now = Date.now();
    let active = '';
    for (let index = first; index < end; index += 1) {
      const row = rows[index]!;
      left.delete(row.key);
      let drawn = this.#drawn.get(row.key);
      if (drawn === undefined) {
        drawn = make();
        this.#drawn.set(row.key, drawn);
        this.#inner.append(drawn.element);
      }
      this.#fill(drawn, row, index, now);
      if (row.key === this.#selected) active = drawn.element.id;
    }
    for (const key of left) {
      this.#drawn.get(key)?.element.remove();
      this.#drawn.delete(key);
    }
    if (active === '') this.box.removeAttribute('aria-activedescendant');
    else setAttr(this.box, 'aria-activedescendant', active);
    if (rows.length > 0 && !this.#marked) {
      this.#marked = true;
      performance.mark('first rows');
    }
    this.ondrawn(rows.length);
  }

  #fill(drawn: Drawn, row: Row, index: number, now: number): void {
    const { element } = drawn;
    const stale = this.fleet.stale(row);
    const state = stale ? 'unknown' : row.state;
    element.style.transform = `translateY(${index * this.#row}px)`;
    element.style.height = `${this.#row}px`;
    setAttr(element, 'data-index', String(index));
    setAttr(element, 'aria-posinset', String(index + 1));
    setAttr(element, 'aria-setsize', String(this.#rows.length));
    setAttr(element, 'aria-selected', String(row.key === this.#selected));
    element.classList.toggle('selected', row.key === this.#selected);
    element.classList.toggle('opened', this.#open.has(row.key));
    element.classList.toggle('stale', stale);
    if (drawn.state !== state) {
      drawn.state = state;
      drawn.dot.replaceChildren(stateDot(state), h('span', { class: 'word' }, stale ? 'Unknown' : stateWord(state)));
    }
    const since = duration(row.sinceMs + (now - row.at));
    drawn.dot.title = stale ? 'Its server is down; this is the last that was known' : `${stateWord(state)} for ${since}`;
    setText(drawn.name, title(row));
    setText(drawn.server, row.server);
    setText(drawn.host, row.host ?? '');
    setText(drawn.port, row.port === null ? '' : String(row.port));
    setText(drawn.clients, row.clients === 0 ? '' : `${row.clients}${row.lock === null ? '' : ' locked'}`);
    drawn.clients.title = row.lock === null ? '' : `${row.lock.mode} lock: ${row.lock.by}`;
    const idle = row.idleMs === null ? null : row.idleMs + (now - row.at);
    const ago = idle === null || idle < 3000 ? (idle === null ? '' : 'now') : `${duration(idle)} ago`;
    setText(drawn.line, row.lastLine || ago);
    drawn.line.classList.toggle('is-text', row.lastLine !== '');
    const rate = row.rates.rate(now);
    setText(drawn.rate, rate >= 0.5 ? `${bytes(rate)}/s` : '');
    setAttr(drawn.spark, 'd', path(row.rates.series(now)));
  }
}

let ids = 0;

function make(): Drawn {
  const cell = (name: string): HTMLElement => h('span', { class: name });
  const spark = svg('path', {});
  const picture = svg('svg', { class: 'spark', viewBox: '0 0 60 16', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  picture.append(spark);
  const rate = cell('rate-word');
  const drawn = {
    dot: cell('c-state'),
    name: cell('c-name'),
    server: cell('c-server'),
    host: cell('c-host'),
    port: cell('c-port'),
    clients: cell('c-clients'),
    line: cell('c-line'),
    rate,
    spark,
    state: '',
  };
  const output = h('span', { class: 'c-rate' }, picture, rate);
  const element = h(
    'div',
    { class: 'row', role: 'option', id: `row-${(ids += 1)}` },
    drawn.dot,
    drawn.name,
    drawn.server,
    drawn.host,
    drawn.port,
    drawn.clients,
    drawn.line,
    output,
  );
  return { ...drawn, element };
}

/** Heights by the square root: a trickle is seen beside a burst. */
function path(series: number[]): string {
  const most = Math.max(...series);
  if (most <= 0) return 'M0 15H60';
  const step = 60 / (STEPS - 1);
  return series
    .map((n, i) => `${i === 0 ? 'M' : 'L'}${(i * step).toFixed(1)} ${(15 - 14 * Math.sqrt(n / most)).toFixed(1)}`)
    .join('');
}

/** Narrower than this, a console is two lines. */
const COMPACT = 720;
