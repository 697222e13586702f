// The page: its header, which view stands below it, and the keys that work everywhere.

import '@xterm/xterm/css/xterm.css';
import './style.css';
import { logOut, type Me, me, onNobody } from './api';
import { dialog, toast } from './ask';
import { button, h, iconButton, setText } from './dom';
import { Changes, type Link } from './changes';
import { Fleet, type Row } from './fleet';
import { icon } from './dom';
import { List } from './list';
import { showLogin } from './login';
import { Pane } from './pane';
import { applyTheme, onPrefs, prefs, setPref } from './prefs';
import { Replay } from './replay';
import { type Name, parseRoute, type Route, writeRoute } from './route';
import { Wall } from './wall';
import { count } from './words';

const fleet = new Fleet(Date.now, (tell) => requestAnimationFrame(tell));
/** Unknown until the gateway has told; what one may then not do, the concentrators refuse. */
let known: Me | null = null;

// ---- header

const filter = h('input', {
  type: 'search',
  class: 'filter',
  placeholder: 'Filter',
  'aria-label': 'Filter consoles',
  autocomplete: 'off',
  spellcheck: 'false',
});
const total = h('span', { class: 'total', role: 'status' });
const servers = h('div', { class: 'servers', role: 'group', 'aria-label': 'Concentrators', tabindex: '0' });
const link = h('div', { class: 'link-bar', role: 'status', hidden: true });
const linkText = h('span');
link.append(linkText, button('Try now', () => changes.start(), { class: 'button small' }));
const themeButton = iconButton('half', 'Theme', () => {
  const next = { system: 'light', light: 'dark', dark: 'system' } as const;
  setPref('theme', next[prefs.theme]);
});
const who = h('span', { class: 'who', hidden: true });
const leave = button('Log out', () => void logOutHere(), { class: 'button small', hidden: true });
const wallButton = iconButton('wall', 'Wall of consoles (w)', () => toggleWall());
const header = h(
  'header',
  { class: 'top' },
  h('h1', {}, h('a', { href: '#/' }, 'Consoles')),
  h('label', { class: 'filter-around' }, icon('search'), filter, h('kbd', { 'aria-hidden': 'true' }, '/')),
  total,
  servers,
  h('span', { class: 'grow' }),
  wallButton,
  themeButton,
  iconButton('help', 'Keys (?)', () => help()),
  who,
  leave,
);

// ---- views

const list = new List(fleet, { open: (row, beside) => openRow(row, beside) });
const tiles = h('div', { class: 'tiles' });
const stage = h('main', { class: 'stage-around', tabindex: '-1' }, list.element, tiles);
const panes = new Map<string, Pane>();
let wall: Wall | null = null;
let replay: Replay | null = null;
let route: Route = parseRoute(location.hash);

const nameOf = (row: Row): Name => ({ server: row.server, name: unique(row) ? row.name : row.id });

/** True if the name alone tells this console from the others of its server. */
function unique(row: Row): boolean {
  if (row.name === '') return false;
  for (const other of fleet.consoles.values()) {
    if (other.key !== row.key && other.server === row.server && other.name === row.name) return false;
  }
  return true;
}

function find(name: Name): Row | undefined {
  let byName: Row | undefined;
  for (const row of fleet.consoles.values()) {
    if (row.server !== name.server) continue;
    if (row.id === name.name) return row;
    if (row.name === name.name) byName ??= row;
  }
  return byName;
}

function go(to: Route): void {
  const hash = writeRoute(to);
  if (location.hash === hash) show();
  else location.hash = hash;
}

function openRow(row: Row, beside: boolean): void {
  const now = beside && route.at === 'list' ? route.open : [];
  const name = nameOf(row);
  const kept = now.filter((n) => n.server !== name.server || n.name !== name.name);
  if (kept.length >= MOST_TILES) {
    toast(`No more than ${MOST_TILES} consoles stand side by side. Close one first.`, true);
    return;
  }
  go({ at: 'list', open: [...kept, name] });
  focusPane = row.key;
  show();
}

let focusPane = '';

function toggleWall(): void {
  go(route.at === 'wall' ? { at: 'list', open: [] } : { at: 'wall' });
}

/** Brings what stands on the page to what the address says. Called again when the list learns something. */
function show(): void {
  route = parseRoute(location.hash);
  const open = route.at === 'list' ? route.open.map(find).filter((row) => row !== undefined) : [];
  const keys = new Set(open.map((row) => row.key));
  for (const [key, pane] of panes) {
    // A console that is gone keeps its last screen until it is closed.
    const asked = route.at === 'list' && route.open.some((n) => named(pane.row, n));
    if (keys.has(key) || (asked && !fleet.consoles.has(key) && !open.some((row) => same(row, pane.row)))) continue;
    pane.dispose();
    panes.delete(key);
  }
  for (const row of open) {
    const pane = panes.get(row.key);
    if (pane !== undefined) pane.learn(row);
    else addPane(row);
  }
  list.opened = keys;

  if (route.at !== 'wall') {
    wall?.dispose();
    wall = null;
  } else if (wall === null) {
    wall = new Wall((row) => openRow(row, false));
    stage.append(wall.element);
  }
  wall?.show(list.rows);

  const of = route.at === 'replay' ? find(route.of) : undefined;
  if (route.at !== 'replay') {
    replay?.dispose();
    replay = null;
  } else if (replay === null && of !== undefined) {
    replay = new Replay(of, () => history.back());
    stage.append(replay.element);
  }
  stage.classList.toggle('has-panes', panes.size > 0);
  stage.classList.toggle('has-wall', wall !== null);
  stage.classList.toggle('has-replay', replay !== null);
  tiles.dataset['count'] = String(panes.size);
  wallButton.setAttribute('aria-pressed', String(wall !== null));
  // Only what is on the page by now can take focus.
  if (focusPane !== '' && panes.has(focusPane)) {
    panes.get(focusPane)!.terminal.focus();
    list.select(focusPane);
    focusPane = '';
  }
  const names = [...panes.values()].map((pane) => pane.row.name || pane.row.id);
  document.title = names.length > 0 ? `${names.join(', ')} · Consoles` : 'Consoles';
}

const same = (a: Row, b: Row): boolean => a.server === b.server && a.name !== '' && a.name === b.name;
const named = (row: Row, n: Name): boolean => row.server === n.server && (row.name === n.name || row.id === n.name);

function addPane(row: Row): void {
  const pane: Pane = new Pane(row, {
    close: () => {
      if (route.at !== 'list') return;
      go({ at: 'list', open: route.open.filter((n) => !named(pane.row, n)) });
      if (panes.size <= 1) list.box.focus();
    },
    leave: () => focusList(),
    replay: (of) => go({ at: 'replay', of: nameOf(of) }),
    mayWrite: () => known === null || (known.role !== 'read' && known.rights !== 'spectator'),
    mayOperate: () => known === null || known.rights === 'operator',
    mayShare: () => known?.shares === true,
    hasGuests: (of) => fleet.servers.get(of.server)?.guests === true,
  });
  panes.set(row.key, pane);
  tiles.append(pane.element);
  pane.terminal.fit();
}

function focusList(): void {
  if (list.box.offsetParent === null) filter.focus();
  else list.box.focus();
}

// ---- what the list and the header say

list.emptyWords = () => {
  if (fleet.consoles.size > 0) {
    return [
      h('p', { class: 'empty-title' }, 'No console matches'),
      h('p', {}, 'Words are looked for in names, servers, hosts, ports and UUIDs. ', 'state:moving looks at the state.'),
      button('Clear the filter', () => {
        filter.value = '';
        list.filter = '';
        filter.focus();
      }),
    ];
  }
  if (changes.state === 'connecting') return [h('p', {}, 'Loading consoles…')];
  if (changes.state === 'lost') {
    return [h('p', { class: 'empty-title' }, 'The gateway does not answer'), h('p', {}, 'It is tried again by itself.')];
  }
  return [
    h('p', { class: 'empty-title' }, 'No consoles yet'),
    h('p', {}, 'A console appears when a VM with a network serial port connects to a concentrator.'),
  ];
};

list.ondrawn = (shown) => {
  const all = fleet.consoles.size;
  setText(total, shown === all ? count(all, 'console') : `${shown.toLocaleString('en')} of ${all.toLocaleString('en')}`);
  // For measurements from outside: what the list has drawn, and when.
  document.documentElement.dataset['shown'] = String(shown);
};

let drawnServers = '';
function showServers(): void {
  const all = [...fleet.servers.values()];
  const state = JSON.stringify(all);
  if (state === drawnServers) return;
  drawnServers = state;
  servers.hidden = all.length === 0;
  servers.replaceChildren(
    ...all.map((server) => {
      const words = server.up ? server.name : `${server.name}: down`;
      const chip = h('span', { class: server.up ? 'server' : 'server down' }, words);
      chip.title = server.up ? 'Connected' : server.message || 'Not connected; its last known consoles are shown';
      return chip;
    }),
  );
}

fleet.listen(() => {
  showServers();
  show();
});

function linkChanged(state: Link): void {
  link.hidden = state !== 'lost';
  setText(linkText, 'The link to the gateway is lost. The list may be old. It is tried again by itself.');
  document.documentElement.dataset['link'] = state;
  whoAmI();
  list.update();
}

// ---- keys

filter.addEventListener('input', () => {
  list.filter = filter.value;
  if (wall !== null) wall.show(list.rows);
});
filter.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') {
    const empty = filter.value === '';
    filter.value = '';
    list.filter = '';
    if (empty) {
      filter.blur();
      list.box.focus();
    }
  } else if (event.key === 'Enter' || event.key === 'ArrowDown' || event.key === 'ArrowUp') {
    list.key(event);
    if (event.key !== 'Enter') list.box.focus();
  } else return;
  event.preventDefault();
});

document.addEventListener('keydown', (event) => {
  const target = event.target as HTMLElement;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.closest('input, textarea, select, dialog, [popover], .terminal') !== null) return;
  const keys: Record<string, () => void> = {
    '/': () => filter.select(),
    '?': help,
    w: toggleWall,
    Escape: () => {
      if (route.at !== 'list' || route.open.length > 0) go({ at: 'list', open: [] });
      focusList();
    },
  };
  const act = keys[event.key];
  if (act !== undefined) {
    event.preventDefault();
    act();
  } else if (target === document.body || target === stage) {
    if (list.key(event)) list.box.focus();
  }
});

function help(): void {
  const keys: ReadonlyArray<readonly [string, string]> = [
    ['/', 'Filter'],
    ['j k or ↓ ↑', 'Move in the list'],
    ['Enter', 'Open the console'],
    ['o or Shift+Enter', 'Open it beside the others'],
    ['Esc', 'Clear the filter; close what is open'],
    ['w', 'Wall of the consoles that are listed'],
    ['?', 'These keys'],
    ['Ctrl+Shift+L', 'In a terminal: leave it'],
    ['Ctrl+Shift+F', 'In a terminal: search'],
    ['Ctrl+Shift+C, V', 'In a terminal: copy, paste'],
  ];
  const table = h('dl', { class: 'keys' });
  for (const [key, does] of keys) table.append(h('dt', {}, h('kbd', {}, key)), h('dd', {}, does));
  const filters = h(
    'p',
    {},
    'A filter has words, all of which have to be found. name:, server:, host:, port:, state:, lock: and line: look at ',
    'one thing; a dash before a word turns it round.',
  );
  const reader = h('input', { type: 'checkbox', onchange: () => setPref('screenReader', reader.checked) });
  reader.checked = prefs.screenReader;
  const label = h('label', { class: 'inline' }, reader, 'Screen reader mode in terminals');
  const made = dialog('Keys', [table, filters, label], [
    h('a', { href: 'licences.txt', class: 'faint' }, 'Licences'),
    h('span', { class: 'grow' }),
    button('Close', () => made.close(), { autofocus: true }),
  ]);
}

// ---- start

function themed(): void {
  applyTheme();
  const words = { system: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' }[prefs.theme];
  themeButton.title = words;
  themeButton.setAttribute('aria-label', words);
  themeButton.replaceChildren(icon(({ system: 'half', light: 'sun', dark: 'moon' } as const)[prefs.theme]));
}

/** As many terminals as can be read beside each other. */
const MOST_TILES = 9;

themed();
onPrefs(themed);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', themed);
document.body.replaceChildren(h('a', { class: 'skip', href: '#/', onclick: skip }, 'Skip to the list'), header, link, stage);
const changes = new Changes(fleet, linkChanged);
changes.start();
let isOver = false;
// Who was known, or never was, logs in: what is on the page is not for whoever sits there now.
onNobody((why) => {
  if (isOver) return;
  isOver = true;
  changes.stop();
  panes.forEach((pane) => pane.dispose());
  wall?.dispose();
  showLogin(why);
});
addEventListener('hashchange', show);
// The network is back: no console sits out its wait.
addEventListener('online', () => panes.forEach((pane) => pane.wake()));
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) panes.forEach((pane) => pane.wake());
});
list.update();
show();

/** After each change of the link: a login may have ended, and a gateway that began anew has another token. */
function whoAmI(): void {
  me().then(
    (value) => {
      known = value;
      who.hidden = value.user === '';
      setText(who, value.user);
      who.title = value.role === '' ? '' : `Role: ${value.role}`;
      leave.hidden = !value.session;
      panes.forEach((pane) => pane.update());
    },
    // The link's own bar tells of it.
    () => undefined,
  );
}

async function logOutHere(): Promise<void> {
  try {
    await logOut();
    location.reload();
  } catch (error) {
    toast((error as Error).message, true);
  }
}

function skip(event: Event): void {
  event.preventDefault();
  focusList();
}
