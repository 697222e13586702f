// The page's dialogs: each a native modal dialog, which keeps focus, closes on Escape and gives focus back.

import { button, h } from './dom';
import { isCut, shape, shown } from './paste';
import { bytes, count } from './words';

export interface Dialog {
  readonly element: HTMLDialogElement;
  close(): void;
}

let ids = 0;

export function dialog(title: string, body: Node[], actions: Node[], wide = false): Dialog {
  const id = `dialog-${(ids += 1)}`;
  const element = h(
    'dialog',
    { class: wide ? 'dialog wide' : 'dialog', 'aria-labelledby': id },
    h('h2', { id }, title),
    h('div', { class: 'dialog-body' }, ...body),
    h('div', { class: 'dialog-actions' }, ...actions),
  );
  element.addEventListener('close', () => element.remove());
  document.body.append(element);
  element.showModal();
  return { element, close: () => element.close() };
}

export function askLink(url: string): void {
  const open = (): void => {
    window.open(url, '_blank', 'noopener,noreferrer');
    made.close();
  };
  const made = dialog(
    'Open a link from the console?',
    [
      h('p', {}, 'The VM printed this link. It may not be what it seems.'),
      h('pre', { class: 'quoted', tabindex: '0' }, url),
    ],
    [button('Cancel', () => made.close(), { autofocus: true }), button('Open in a new tab', open)],
  );
}

/** Shows what would be sent, and resolves to whether to send it. */
export function askPaste(text: string, console: string): Promise<boolean> {
  return new Promise((resolve) => {
    const { lines, bytes: size, controls } = shape(text);
    let answer = false;
    const yes = (): void => {
      answer = true;
      made.close();
    };
    const preview = shown(text);
    const made = dialog(
      `Paste ${count(lines, 'line')} into ${console}?`,
      [
        h('p', {}, `${bytes(size)} will be typed. Each line end is sent as Enter, and may run a command.`),
        controls && h('p', { class: 'warning' }, 'It has control characters, which are shown as symbols.'),
        h('pre', { class: 'quoted', tabindex: '0', 'aria-label': 'What will be pasted' }, preview),
        isCut(text) && h('p', { class: 'faint' }, 'Only its beginning is shown.'),
      ].filter((node) => node !== false),
      [button('Cancel', () => made.close()), button('Paste', yes, { class: 'button primary', autofocus: true })],
      true,
    );
    made.element.addEventListener('close', () => resolve(answer));
  });
}

/** Asks for a reason; null: not to be done. */
export function askReason(title: string, words: string, does: string): Promise<string | null> {
  return new Promise((resolve) => {
    let answer: string | null = null;
    const input = h('input', { class: 'field', maxlength: '200', autofocus: true, autocomplete: 'off' });
    const label = h('label', { class: 'labelled' }, 'Reason (they are shown it)', input);
    const form = h('form', {}, h('p', {}, words), label);
    const yes = (): void => {
      answer = input.value.trim();
      made.close();
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      yes();
    });
    const actions = [button('Cancel', () => made.close()), button(does, yes, { class: 'button primary' })];
    const made = dialog(title, [form], actions);
    made.element.addEventListener('close', () => resolve(answer));
  });
}

let toastTimer: ReturnType<typeof setTimeout> | undefined;
/** A sentence at the edge of the page, said to screen readers as well. */
export function toast(words: string, wrong = false): void {
  let element = document.querySelector<HTMLElement>('#toast');
  if (element === null) {
    element = h('div', { id: 'toast', role: 'status', 'aria-live': 'polite' });
    document.body.append(element);
  }
  element.textContent = words;
  element.className = wrong ? 'wrong shown' : 'shown';
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => element.classList.remove('shown'), 6000);
}
