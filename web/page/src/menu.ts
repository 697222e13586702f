// A button that shows a short list of things to do. The list is a native popover: it closes on Escape and on a
// click elsewhere, and arrows move in it.

import { h, icon, type IconName } from './dom';

export interface Item {
  readonly text: string;
  readonly act?: () => void;
  readonly href?: string;
  readonly off?: boolean;
  readonly checked?: boolean;
}

export function menuButton(name: IconName, label: string, items: () => Array<Item | null>): HTMLElement {
  const list = h('div', { class: 'menu', role: 'menu', popover: 'auto', 'aria-label': label });
  const opener = h(
    'button',
    {
      type: 'button',
      class: 'icon-button',
      'aria-label': label,
      title: label,
      'aria-haspopup': 'menu',
      'aria-expanded': 'false',
    },
    icon(name),
  );
  const entries = (): HTMLElement[] => [...list.querySelectorAll<HTMLElement>('[role^=menuitem]:not([disabled])')];

  opener.addEventListener('click', () => {
    list.replaceChildren(...items().map((item) => (item === null ? h('hr') : entry(item))));
    list.showPopover();
    const at = opener.getBoundingClientRect();
    const size = list.getBoundingClientRect();
    list.style.left = `${Math.max(8, Math.min(at.right - size.width, innerWidth - size.width - 8))}px`;
    const below = at.bottom + 4 + size.height <= innerHeight - 8;
    list.style.top = `${below ? at.bottom + 4 : Math.max(8, innerHeight - size.height - 8)}px`;
    entries()[0]?.focus();
  });
  list.addEventListener('toggle', (event) => {
    opener.setAttribute('aria-expanded', String((event as ToggleEvent).newState === 'open'));
  });
  list.addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const all = entries();
    const now = all.indexOf(document.activeElement as HTMLElement);
    all[(now + step + all.length) % all.length]?.focus();
  });

  function entry(item: Item): HTMLElement {
    const checkable = item.checked !== undefined;
    const props = {
      class: 'menu-item',
      role: checkable ? 'menuitemcheckbox' : 'menuitem',
      'aria-checked': checkable ? String(item.checked) : undefined,
      onclick: () => {
        list.hidePopover();
        item.act?.();
      },
    };
    if (item.href !== undefined) return h('a', { ...props, href: item.href, download: true }, item.text);
    return h('button', { ...props, type: 'button', disabled: item.off }, item.text);
  }

  return h('span', { class: 'menu-around' }, opener, list);
}
