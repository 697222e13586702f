// Many consoles at a glance, as pictures that nobody types into: the first of those that the filter leaves.

import { h } from './dom';
import type { Row } from './fleet';
import { Session } from './session';
import { socketTo } from './socket';
import { stateDot } from './state';
import { Terminal } from './terminal';
import { count, title } from './words';

interface Tile {
  readonly element: HTMLElement;
  readonly terminal: Terminal;
  readonly session: Session;
  learn(row: Row): void;
}

export class Wall {
  readonly element: HTMLElement;
  readonly #grid = h('div', { class: 'wall-grid' });
  readonly #note = h('p', { class: 'faint', role: 'status' });
  readonly #tiles = new Map<string, Tile>();

  constructor(private readonly open: (row: Row) => void) {
    this.element = h('section', { class: 'wall', 'aria-label': 'Wall of consoles' }, this.#note, this.#grid);
  }

  show(rows: readonly Row[]): void {
    const seen = rows.slice(0, MOST);
    const keys = new Set(seen.map((row) => row.key));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      drop(tile);
      this.#tiles.delete(key);
    }
    for (const row of seen) {
      const tile = this.#tiles.get(row.key);
      if (tile === undefined) this.#add(row);
      else tile.learn(row);
    }
    const rest = rows.length - seen.length;
    const words = rest > 0 ? `The first ${seen.length} of ${count(rows.length, 'console')}: type a filter to see others.` : '';
    this.#note.textContent = rows.length === 0 ? 'No console matches the filter.' : words;
    this.#note.hidden = this.#note.textContent === '';
  }

  dispose(): void {
    for (const tile of this.#tiles.values()) drop(tile);
    this.element.remove();
  }

  #add(first: Row): void {
    let row = first;
    const dot = h('span', {}, stateDot(row.state));
    const name = h('span', { class: 'tile-name' }, title(row));
    const note = h('span', { class: 'faint' });
    const holder = h('div', { class: 'terminal', 'aria-hidden': 'true', inert: true });
    const head = h('button', { type: 'button', class: 'tile-head', onclick: () => this.open(row) }, dot, name, note);
    const element = h('div', { class: 'tile' }, head, holder);
    // The picture is inert: a click on it arrives here.
    element.addEventListener('click', (event) => {
      if (event.target === element) this.open(row);
    });
    this.#grid.append(element);
    const terminal = new Terminal(
      holder,
      { label: title(row), fontSize: 8, scrollback: 0, picture: true },
      null,
    );
    const session: Session = new Session(
      { lock: 'read-only', scrollback: 8192 },
      {
        output: (data, done) => terminal.write(data, done),
        restarted: () => terminal.xterm.reset(),
        missed: () => undefined,
        refused: () => undefined,
        changed: () => queueMicrotask(() => say()),
      },
      socketTo(row),
    );
    const say = (): void => {
      const words = { connecting: 'connecting', open: '', lost: 'link lost', ended: 'ended' }[session.phase];
      note.textContent = words;
      element.classList.toggle('is-lost', words !== '');
    };
    this.#tiles.set(row.key, {
      element,
      terminal,
      session,
      learn(next) {
        if (next.state !== row.state) dot.replaceChildren(stateDot(next.state));
        row = next;
        name.textContent = title(row);
      },
    });
  }
}

function drop(tile: Tile): void {
  tile.session.close();
  tile.terminal.dispose();
  tile.element.remove();
}

/** A browser opens no more than some 200 websockets, and nobody reads more pictures than this. */
const MOST = 36;
