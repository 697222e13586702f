// Links that let somebody else see one console for a time: made, listed and taken back.

import { type Ref, revoke, type Share, share, shares } from './api';
import { dialog, toast } from './ask';
import { button, h } from './dom';
import { until } from './words';

const TIMES: ReadonlyArray<readonly [number, string]> = [
  [15, '15 minutes'],
  [60, '1 hour'],
  [8 * 60, '8 hours'],
  [24 * 60, '1 day'],
  [7 * 24 * 60, '7 days'],
];

export function shareDialog(ref: Ref & { name: string }): void {
  const rights = h(
    'select',
    { class: 'field', autofocus: true },
    h('option', { value: 'spectator' }, 'watch'),
    h('option', { value: 'writer' }, 'watch and type'),
  );
  const time = h('select', { class: 'field' }, ...TIMES.map(([n, words]) => h('option', { value: n }, words)));
  time.value = '60';
  const link = h('input', { class: 'field', readonly: true, 'aria-label': 'The link' });
  const result = h('div', { class: 'share-result', hidden: true }, link, button('Copy', () => void copy()));
  const wrong = h('p', { class: 'warning', role: 'alert', hidden: true });
  const make = button('Make link', () => void create(), { class: 'button primary' });
  const there = h('div', { class: 'people', hidden: true });
  const made = dialog(
    `Share ${ref.name || ref.id}`,
    [
      h('p', {}, 'Whoever has the link can use it, without a login, until it expires or is revoked.'),
      h('label', { class: 'labelled' }, 'They may', rights),
      h('label', { class: 'labelled' }, 'For', time),
      result,
      wrong,
      there,
    ],
    [button('Close', () => made.close()), make],
  );
  void load();

  async function create(): Promise<void> {
    make.disabled = true;
    wrong.hidden = true;
    try {
      const { url } = await share(ref, rights.value, Number(time.value));
      link.value = new URL(url, document.baseURI).href;
      result.hidden = false;
      link.focus();
      link.select();
      await load();
    } catch (error) {
      say(error);
    }
    make.disabled = false;
  }

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(link.value);
      toast('The link is copied.');
    } catch {
      link.select();
    }
  }

  async function load(): Promise<void> {
    try {
      const all = await shares(ref);
      there.hidden = all.length === 0;
      there.replaceChildren(h('h3', {}, 'Links that there are'), h('ul', {}, ...all.map(entry)));
    } catch (error) {
      say(error);
    }
  }

  function entry(one: Share): HTMLElement {
    const may = one.rights === 'writer' ? 'Watch and type' : 'Watch';
    const facts = `made by ${one.by}, until ${until(one.expiresMs)}`;
    const what = h('div', { class: 'person' }, h('strong', {}, may), h('div', { class: 'faint' }, facts));
    return h('li', {}, what, button('Revoke', () => void end(one), { class: 'button small' }));
  }

  async function end(one: Share): Promise<void> {
    try {
      await revoke(one.id);
      result.hidden = true;
      toast('The link is revoked. What was open by it ends.');
      await load();
      // The button that had it is gone.
      make.focus();
    } catch (error) {
      say(error);
    }
  }

  function say(error: unknown): void {
    wrong.textContent = (error as Error).message;
    wrong.hidden = false;
  }
}
