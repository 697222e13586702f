// How the page makes elements. Whatever comes from a server or a VM becomes text, never markup: nothing here,
// and nothing elsewhere in the page, takes a string of HTML.

type Child = Node | string | number | null | undefined | false;
type Props = Record<string, unknown>;

/** An element with attributes, listeners (`onclick`) and children; strings become text. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value as EventListener);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

export function append(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Sets text only where it is new: a screen reader and the layout are not troubled for nothing. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttr(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag: string, attributes: Record<string, string>): SVGElement {
  const element = document.createElementNS(SVG, tag) as SVGElement;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A button with an icon; its label is what a screen reader says and a pointer shows. */
export function iconButton(name: IconName, label: string, act: () => void, props: Props = {}): HTMLButtonElement {
  return h(
    'button',
    { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick: act, ...props },
    icon(name),
  );
}

export function button(text: string, act: () => void, props: Props = {}): HTMLButtonElement {
  return h('button', { type: 'button', class: 'button', onclick: act, ...props }, text);
}

export function icon(name: IconName): SVGElement {
  const element = svg('svg', { viewBox: '0 0 16 16', class: 'icon', 'aria-hidden': 'true', focusable: 'false' });
  element.append(svg('path', { d: ICONS[name] }));
  return element;
}

// Lines on a grid of 16, drawn with the colour of the text around them.
const ICONS = {
  back: 'M10 3 5 8l5 5',
  close: 'm4 4 8 8m0-8-8 8',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.5 10.5 14 14',
  lock: 'M4 7.5h8v6H4zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5',
  people: 'M6 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5M1.5 13.5c0-2.5 2-4 4.5-4s4.5 1.5 4.5 4M10.5 3.2a2.5 2.5 0 0 1 0 4.6M12 9.8c1.6.6 2.5 1.9 2.5 3.7',
  more: 'M2.4 8a.6.6 0 1 0 1.2 0 .6.6 0 1 0-1.2 0M7.4 8a.6.6 0 1 0 1.2 0 .6.6 0 1 0-1.2 0M12.4 8a.6.6 0 1 0 1.2 0 .6.6 0 1 0-1.2 0',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5',
  sun: 'M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  half: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2v12',
  help: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M6.2 6.3A1.8 1.8 0 1 1 8 8.2v.9M8 11.3h.01',
  wall: 'M2.5 2.5h4.5v4.5H2.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5H2.5zM9 9h4.5v4.5H9z',
  up: 'm4 10 4-4 4 4',
  down: 'm4 6 4 4 4-4',
  play: 'M5 3v10l8-5z',
  pause: 'M5 3v10M11 3v10',
  copy: 'M5.5 5.5h8v8h-8zM3 10.5h-.5v-8h8V3',
  history: 'M2.5 8A5.5 5.5 0 1 0 4.2 4M2.5 2.5v2.7h2.7M8 5v3.2l2 1.3',
} as const;
export type IconName = keyof typeof ICONS;
