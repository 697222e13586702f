// How a console's state looks: a shape and a word, so that it does not hang on its colour.

import { h, svg } from './dom';

const WORDS: Record<string, string> = { connected: 'Connected', moving: 'Moving', waiting: 'Waiting' };

export const stateWord = (state: string): string => WORDS[state] ?? state;

export function stateDot(state: string): SVGElement {
  const dot = svg('svg', { viewBox: '0 0 10 10', class: `dot ${known(state)}`, 'aria-hidden': 'true' });
  if (state === 'moving') dot.append(svg('path', { d: 'M1 5h7M5.2 1.8 8.4 5 5.2 8.2' }));
  else dot.append(svg('circle', { cx: '5', cy: '5', r: state === 'connected' ? '3.6' : '3' }));
  return dot;
}

export function stateBadge(state: string): HTMLElement {
  return h('span', { class: `badge ${known(state)}` }, stateDot(state), stateWord(state));
}

/** A class name of ours, whatever the server says. */
const known = (state: string): string => (state in WORDS ? state : 'unknown');
