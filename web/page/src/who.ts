// Who is at a console, and sending one of them away.

import { bump, clients, kick, type Client, type Ref } from './api';
import { askReason, dialog, toast } from './ask';
import { button, h } from './dom';
import { duration } from './words';

export async function whoDialog(ref: Ref & { name: string }, mayOperate: boolean): Promise<void> {
  const body = h('div', { class: 'people' }, h('p', { class: 'faint' }, 'Asking…'));
  const made = dialog(`Who is at ${ref.name || ref.id}`, [body], [button('Close', () => made.close())], true);

  async function load(): Promise<void> {
    try {
      const all = await clients(ref);
      if (all.length === 0) body.replaceChildren(h('p', { class: 'faint' }, 'Nobody.'));
      else body.replaceChildren(h('ul', {}, ...all.map(entry)));
    } catch (error) {
      body.replaceChildren(h('p', { class: 'warning', role: 'alert' }, (error as Error).message));
    }
  }

  function entry(c: Client): HTMLElement {
    const does = [c.access === 'write' ? 'writes' : 'watches', c.lock === null ? '' : `${c.lock} lock`];
    const facts = [...does, c.speaks, c.from, `for ${duration(c.sinceMs)}`].filter(Boolean).join(' · ');
    const name = h('strong', {}, c.who || c.from || c.id);
    const who = h('div', { class: 'person' }, name, c.you ? ' (you)' : '', h('div', { class: 'faint' }, facts));
    if (!mayOperate || c.you) return h('li', {}, who);
    const away = (act: typeof kick | typeof bump, does: string): HTMLElement =>
      button(`${does}…`, () => void sendAway(c, act, does), { class: 'button small' });
    return h('li', {}, who, away(bump, 'Send away'), away(kick, 'Disconnect'));
  }

  async function sendAway(c: Client, act: typeof kick | typeof bump, does: string): Promise<void> {
    const reason = await askReason(`${does}: ${c.who || c.from}?`, 'They can come back.', does);
    if (reason === null) return;
    try {
      await act(ref, c.id, reason);
      await load();
    } catch (error) {
      toast((error as Error).message, true);
    }
  }

  await load();
}
