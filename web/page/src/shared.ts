// The page for who has come by a share link: that one console, and nothing else.

import '@xterm/xterm/css/xterm.css';
import './style.css';
import { me, onNobody, type Problem, show, useShare } from './api';
import { h, icon, iconButton } from './dom';
import { Fleet } from './fleet';
import { Pane } from './pane';
import { applyTheme, onPrefs, prefs, setPref } from './prefs';
import { shareWord } from './route';
import { sentence, title, until } from './words';

const ends = h('span', { class: 'total', role: 'status' });
const themeButton = iconButton('half', 'Theme', () => {
  const next = { system: 'light', light: 'dark', dark: 'system' } as const;
  setPref('theme', next[prefs.theme]);
});
const stage = h('main', { class: 'stage-around has-panes is-shared' }, h('p', { class: 'empty' }, 'Opening the console…'));
let pane: Pane | null = null;

function over(words: string): void {
  pane?.dispose();
  pane = null;
  stage.replaceChildren(h('p', { class: 'empty', role: 'alert' }, words));
}

async function open(): Promise<void> {
  const { share, rights } = await me();
  if (share === null) throw new Error('This is no share link.');
  const ref = { server: share.server, id: share.uuid };
  const found = await show(ref);
  if (found === null) throw new Error('The console is not there.');
  const fleet = new Fleet(Date.now, () => undefined);
  // By its UUID, which stays when the console begins anew.
  fleet.put({ ...found, ...ref });
  const row = [...fleet.consoles.values()][0]!;
  const no = (): boolean => false;
  const nothing = (): void => undefined;
  pane = new Pane(
    row,
    {
      close: nothing,
      leave: () => themeButton.focus(),
      replay: nothing,
      mayWrite: () => rights !== 'spectator',
      mayOperate: no,
      mayShare: no,
      hasGuests: no,
    },
    'shared',
  );
  const tiles = h('div', { class: 'tiles', 'data-count': '1' }, pane.element);
  stage.replaceChildren(tiles);
  pane.terminal.fit();
  pane.terminal.focus();
  document.title = `${title(row)} · shared console`;
  ends.textContent = `Shared until ${until(share.expiresMs)}`;
}

function themed(): void {
  applyTheme();
  const words = { system: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' }[prefs.theme];
  themeButton.title = words;
  themeButton.setAttribute('aria-label', words);
  themeButton.replaceChildren(icon(({ system: 'half', light: 'sun', dark: 'moon' } as const)[prefs.theme]));
}

themed();
onPrefs(themed);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', themed);
document.body.replaceChildren(
  h('header', { class: 'top' }, h('h1', {}, 'Shared console'), ends, h('span', { class: 'grow' }), themeButton),
  stage,
);
useShare(shareWord(location.hash));
onNobody((why: Problem) => over(sentence(why.message)));
addEventListener('online', () => pane?.wake());
open().catch((error: unknown) => {
  if (stage.querySelector('[role=alert]') === null) over((error as Error).message);
});
