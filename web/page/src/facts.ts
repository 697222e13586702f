// What the guest of a console tells of itself, and what was set for it, where it has an agent: a button that is
// there while there is something to show, and what it shows.

import { type Fact, type Facts, facts, type Ref } from './api';
import { type Dialog, dialog } from './ask';
import { button, h } from './dom';

export class FactsButton {
  readonly element = h(
    'button',
    {
      type: 'button',
      class: 'chip',
      hidden: true,
      title: 'What the guest tells of itself',
      'aria-haspopup': 'dialog',
      onclick: () => this.#open(),
    },
    'Facts',
  );
  readonly #timer = setInterval(() => this.#tick(), TICK_MS);
  #ticks = 0;
  #when = '';
  #known = '';
  #facts: Facts = { guest: [], host: [] };
  /** One look at a time: a server that hangs would be asked by each tick. */
  #looking = false;
  #shown: { dialog: Dialog; body: HTMLElement } | null = null;

  /** `ref`: null where the console's server knows nothing of guests. */
  constructor(private readonly ref: () => (Ref & { name: string }) | null) {}

  /** The console is in this state; empty: nothing is known of it now. Where that is new, facts may be, too. */
  update(state: string): void {
    const when = this.ref() === null ? '' : state;
    if (when === this.#when) return;
    this.#when = when;
    if (when !== '') void this.#look();
  }

  dispose(): void {
    clearInterval(this.#timer);
    this.#shown?.dialog.close();
  }

  #tick(): void {
    this.#ticks += 1;
    if (document.hidden || this.#when === '') return;
    if (this.#shown !== null || this.#ticks % SELDOM === 0) void this.#look();
  }

  async #look(): Promise<void> {
    const ref = this.ref();
    if (ref === null || this.#looking) return;
    let found: Facts;
    this.#looking = true;
    try {
      found = await facts(ref);
    } catch {
      // What was known stays: the console's own bar tells what is wrong.
      return;
    } finally {
      this.#looking = false;
    }
    const all = JSON.stringify(found);
    if (all === this.#known) return;
    this.#known = all;
    this.#facts = found;
    this.element.hidden = found.guest.length + found.host.length === 0;
    this.#show();
  }

  #open(): void {
    const ref = this.ref();
    if (ref === null) return;
    const body = h('div', { class: 'facts' });
    const made = dialog(`Facts of ${ref.name || ref.id}`, [body], [button('Close', () => made.close())], true);
    made.element.addEventListener('close', () => {
      this.#shown = null;
    });
    this.#shown = { dialog: made, body };
    this.#show();
    void this.#look();
  }

  #show(): void {
    const { guest, host } = this.#facts;
    const parts = [part('Told by the guest', guest), part('Set for the guest', host)].flat();
    this.#shown?.body.replaceChildren(...(parts.length > 0 ? parts : [h('p', { class: 'faint' }, 'None any more.')]));
  }
}

function part(title: string, all: readonly Fact[]): HTMLElement[] {
  if (all.length === 0) return [];
  const pairs = all.flatMap(([key, value]) => [h('dt', {}, key), h('dd', { dir: 'auto' }, value)]);
  return [h('h3', {}, title), h('dl', {}, ...pairs)];
}

const TICK_MS = 3000;
/** Every so many ticks they are looked for where nobody reads them. */
const SELDOM = 10;
