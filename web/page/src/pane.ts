// One console on the page: its terminal, what is known of it, and what can be done with it. Its link heals by
// itself; while it is lost, the last screen stays and the bar above says so.

import { bump, consoleUrl } from './api';
import { askPaste, askReason, toast } from './ask';
import { button, h, iconButton, setText } from './dom';
import { FactsButton } from './facts';
import type { Row } from './fleet';
import { type Item, menuButton } from './menu';
import { asTyped, bracketed, needsAsking } from './paste';
import { prefs, setPref } from './prefs';
import { Session } from './session';
import { shareDialog } from './share';
import { stateBadge } from './state';
import { Terminal } from './terminal';
import { socketTo } from './socket';
import { whoDialog } from './who';
import { bytes, count, title } from './words';

export interface PaneActs {
  close(): void;
  leave(): void;
  replay(row: Row): void;
  mayWrite(): boolean;
  mayOperate(): boolean;
  mayShare(): boolean;
  /** Whether its server speaks with agents in guests. */
  hasGuests(row: Row): boolean;
}

/** `shared`: this console is all that there is; there is no list to go back to, and no log. */
export type Place = 'beside others' | 'shared';

export class Pane {
  readonly element: HTMLElement;
  readonly terminal: Terminal;
  readonly session: Session;
  readonly #state = h('span', { class: 'state' });
  readonly #where = h('span', { class: 'pane-where' });
  readonly #name: HTMLElement;
  readonly #people = h('button', { type: 'button', class: 'chip' });
  readonly #mode = h('button', { type: 'button', class: 'chip' });
  readonly #facts = new FactsButton(() => (this.acts.hasGuests(this.row) ? this.row : null));
  readonly #bar = h('div', { class: 'pane-bar', role: 'status', hidden: true });
  readonly #barText = h('span');
  readonly #barAct = button('', () => this.#barDoes(), { class: 'button small' });
  readonly #find: HTMLElement;
  readonly #findInput = h('input', {
    class: 'field',
    type: 'search',
    'aria-label': 'Search in scrollback',
    placeholder: 'Search in scrollback',
  });
  readonly #findCount = h('span', { class: 'faint', role: 'status' });
  #barDoes: () => void = () => undefined;
  #missed = 0;
  #wanted: 'write' | 'watch' = 'write';

  constructor(
    public row: Row,
    private readonly acts: PaneActs,
    private readonly place: Place = 'beside others',
  ) {
    const isShared = place === 'shared';
    this.#people.disabled = isShared;
    this.#name = h('h2', { class: 'pane-name' }, title(row));
    this.#find = this.#makeFind();
    const holder = h('div', { class: 'terminal' });
    this.#people.addEventListener('click', () => void whoDialog(this.row, this.acts.mayOperate()));
    this.#mode.addEventListener('click', () => this.#toggleMode());
    this.#bar.append(this.#barText, this.#barAct);
    this.element = h(
      'section',
      { class: 'pane', 'aria-label': `Console ${title(row)}` },
      h(
        'header',
        { class: 'pane-head' },
        !isShared &&
          iconButton('back', 'Back to the list', () => this.acts.close(), { class: 'icon-button only-narrow' }),
        h('div', { class: 'pane-title' }, this.#name, this.#where),
        this.#state,
        h('span', { class: 'grow' }),
        this.#facts.element,
        this.#people,
        this.#mode,
        iconButton('search', 'Search in scrollback (Ctrl+Shift+F)', () => this.openFind()),
        menuButton('more', 'More', () => this.#menu()),
        !isShared &&
          iconButton('close', 'Close this console', () => this.acts.close(), { class: 'icon-button only-wide' }),
      ),
      this.#bar,
      this.#find,
      holder,
    );
    this.terminal = new Terminal(
      holder,
      { label: `Terminal of ${title(row)}. Ctrl+Shift+L leaves it.` },
      {
        typed: (data) => this.#type(data),
        pasted: (text) => void this.#paste(text),
        mayAnswer: () => this.session.access === 'write' && !this.session.replaying,
      },
    );
    this.terminal.onresults = () => setText(this.#findCount, this.terminal.results);
    this.terminal.xterm.attachCustomKeyEventHandler((event) => this.#key(event));
    let session: Session | null = null;
    this.session = session = new Session(
      { lock: '', scrollback: SCROLLBACK },
      {
        output: (data, done) => this.terminal.write(data, done),
        restarted: () => this.terminal.note('The output begins anew here; something may be missing.'),
        missed: (n) => {
          this.#missed += n;
          this.terminal.note(`${bytes(n)} were skipped: this page did not keep up.`);
        },
        refused: (why) => toast(why, true),
        changed: () => {
          // The first change comes while the session is still being made.
          if (session !== null) this.update();
        },
      },
      socketTo(row),
    );
    const { xterm } = this.terminal;
    session.resize(xterm.rows, xterm.cols);
    xterm.onResize(({ rows, cols }) => this.session.resize(rows, cols));
    this.update();
  }

  /** The list knows something new of this console. */
  learn(row: Row): void {
    this.row = row;
    this.update();
  }

  update(): void {
    const { session, row } = this;
    setText(this.#name, title(row));
    const host = session.host || row.host;
    setText(this.#where, [row.server, host, row.port === null ? '' : `port ${row.port}`].filter(Boolean).join(' · '));
    this.#state.replaceChildren(stateBadge(session.state || row.state));
    const here = Math.max(session.clients, session.phase === 'open' ? 1 : row.clients);
    setText(this.#people, `${here} here`);
    if (this.place !== 'shared') this.#people.title = 'Who is here';
    this.#facts.update(session.phase === 'open' ? session.state || row.state : '');
    const writes = session.access === 'write';
    const held = row.lock;
    const locked = session.lock === 'write' || session.lock === 'exclusive';
    setText(this.#mode, writes ? (locked ? `Writing, ${session.lock} lock` : 'Writing') : 'Watching');
    this.#mode.className = writes ? (locked ? 'chip locked' : 'chip writing') : 'chip';
    const may = this.acts.mayWrite();
    this.#mode.title = writes
      ? 'You can type. Click to watch only.'
      : may
        ? 'You only watch. Click to ask to write.'
        : 'You may only watch.';
    this.#mode.disabled = session.phase !== 'open' || !may;
    this.terminal.writable = writes;
    this.element.classList.toggle('is-lost', session.phase === 'lost' || session.phase === 'ended');

    if (session.phase === 'lost') {
      const why = session.message === '' ? '' : ` The gateway says: ${session.message.replace(/[.\s]*$/, '.')}`;
      this.#say('warn', `The link is lost and tried again by itself.${why}`, 'Try now', () => session.retry());
    } else if (session.phase === 'ended') {
      this.#say('wrong', session.message || 'This has ended.', 'Open again', () => session.retry());
    } else if (session.phase === 'connecting') {
      this.#say('', 'Connecting…');
    } else if (session.sending > 0) {
      const left = `Pasting: ${bytes(session.sending)} left.`;
      this.#say('', left, 'Stop', () => session.stopSending());
    } else if (session.state === 'moving') {
      this.#say('info', 'The VM is moving to another host. What is typed is kept and arrives there.');
    } else if (session.state === 'waiting') {
      this.#say('info', 'The VM is not connected: it is off, or its host cannot reach the concentrator.');
    } else if (!writes && this.#wanted === 'write' && held !== null && session.phase === 'open') {
      const does = this.acts.mayOperate() ? 'Send away…' : '';
      this.#say('info', `${held.by || 'Somebody'} holds the ${held.mode} lock. You watch.`, does, () =>
        void this.#bump(),
      );
    } else {
      this.#bar.hidden = true;
    }
  }

  /** Tries a lost link at once. */
  wake(): void {
    if (this.session.phase === 'lost') this.session.retry();
  }

  openFind(): void {
    this.#find.hidden = false;
    this.#findInput.focus();
    this.#findInput.select();
  }

  dispose(): void {
    this.#facts.dispose();
    this.session.close();
    this.terminal.dispose();
    this.element.remove();
  }

  #say(kind: string, words: string, does = '', act: () => void = () => undefined): void {
    this.#bar.hidden = false;
    this.#bar.className = `pane-bar ${kind}`;
    setText(this.#barText, words);
    this.#barAct.hidden = does === '';
    setText(this.#barAct, does);
    this.#barDoes = act;
  }

  #type(data: Uint8Array): void {
    if (!this.session.type(data) && this.session.phase === 'open') toast('You only watch this console.');
  }

  async #paste(text: string): Promise<void> {
    if (text === '') return;
    if (this.session.access !== 'write') {
      toast('You only watch this console: nothing was pasted.', true);
      return;
    }
    if (needsAsking(text) && !(await askPaste(text, title(this.row)))) return;
    const framed = this.terminal.xterm.modes.bracketedPasteMode ? bracketed(text) : text;
    if (!this.session.type(asTyped(framed))) toast('The link was lost: nothing was pasted.', true);
    this.terminal.focus();
    this.update();
  }

  #toggleMode(): void {
    if (this.session.access === 'write') {
      this.#wanted = 'watch';
      this.session.ask('read-only');
    } else {
      this.#wanted = 'write';
      this.session.ask('free-for-all');
    }
    this.terminal.focus();
  }

  async #bump(): Promise<void> {
    const reason = await askReason(
      `Send everybody else away from ${title(this.row)}?`,
      'Their locks end, and their sessions with them. They can come back.',
      'Send away',
    );
    if (reason === null) return;
    try {
      await bump(this.row, null, reason);
      toast('The others were sent away.');
      this.session.ask('free-for-all');
    } catch (error) {
      toast((error as Error).message, true);
    }
  }

  #menu(): Array<Item | null> {
    const { session } = this;
    const off = session.phase !== 'open' || !this.acts.mayWrite();
    const locked = session.lock === 'write' || session.lock === 'exclusive';
    const elsewhere: Item[] = [
      { text: 'Download log', href: consoleUrl(this.row, '/log', { format: 'raw' }) },
      { text: 'Replay…', act: () => this.acts.replay(this.row) },
      { text: 'Share link…', act: () => shareDialog(this.row), off: !this.acts.mayShare() },
    ];
    return [
      { text: 'Lock for writing', act: () => session.ask('write'), off: off || session.lock === 'write' },
      { text: 'Lock exclusively', act: () => session.ask('exclusive'), off: off || session.lock === 'exclusive' },
      { text: 'Release the lock', act: () => session.ask('free-for-all'), off: off || !locked },
      { text: 'Send the others away…', act: () => void this.#bump(), off: !this.acts.mayOperate() },
      null,
      { text: 'Send break', act: () => session.sendBreak(), off: off || session.access !== 'write' },
      { text: 'Copy selection or screen', act: () => void this.#copy() },
      ...(this.place === 'shared' ? [] : elsewhere),
      null,
      { text: 'Larger text', act: () => setPref('fontSize', Math.min(32, prefs.fontSize + 1)) },
      { text: 'Smaller text', act: () => setPref('fontSize', Math.max(8, prefs.fontSize - 1)) },
      {
        text: 'Screen reader mode',
        checked: prefs.screenReader,
        act: () => setPref('screenReader', !prefs.screenReader),
      },
    ];
  }

  async #copy(): Promise<void> {
    const { xterm } = this.terminal;
    let text = xterm.getSelection();
    if (text === '') {
      const { active } = xterm.buffer;
      const lines = Array.from({ length: xterm.rows }, (_, y) =>
        active.getLine(active.viewportY + y)?.translateToString(true) ?? '');
      text = lines.join('\n').trimEnd();
    }
    try {
      await navigator.clipboard.writeText(text);
      toast(`Copied ${count(text.split('\n').length, 'line')}.`);
    } catch {
      toast('The browser did not allow copying.', true);
    }
  }

  #key(event: KeyboardEvent): boolean {
    if (event.type !== 'keydown' || !event.ctrlKey || !event.shiftKey || event.altKey) return true;
    const act = { KeyF: () => this.openFind(), KeyC: () => void this.#copy(), KeyL: () => this.acts.leave() }[
      event.code
    ];
    if (event.code === 'KeyV') return false;
    if (act === undefined) return true;
    event.preventDefault();
    act();
    return false;
  }

  #makeFind(): HTMLElement {
    const close = (): void => {
      this.#find.hidden = true;
      this.terminal.clearFind();
      this.terminal.focus();
    };
    this.#findInput.addEventListener('input', () => this.terminal.find(this.#findInput.value, true));
    const form = h(
      'form',
      {
        class: 'find',
        role: 'search',
        hidden: true,
        onsubmit: (event: Event) => {
          event.preventDefault();
          this.terminal.find(this.#findInput.value, true);
        },
        onkeydown: (event: KeyboardEvent) => {
          if (event.key === 'Escape') close();
          else if (event.key === 'Enter' && event.shiftKey) {
            event.preventDefault();
            this.terminal.find(this.#findInput.value, false);
          } else return;
          event.stopPropagation();
        },
      },
      this.#findInput,
      this.#findCount,
      iconButton('up', 'Previous match', () => this.terminal.find(this.#findInput.value, true)),
      iconButton('down', 'Next match (Shift+Enter)', () => this.terminal.find(this.#findInput.value, false)),
      iconButton('close', 'Close search', close),
    );
    return form;
  }
}

/** As much of what was printed as is asked for at once. */
const SCROLLBACK = 256 * 1024;
