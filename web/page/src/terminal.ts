// xterm.js as this page uses it: what a VM prints can draw in the terminal and do nothing else. No title, no
// clipboard, no link that opens unasked, no answer to a question from the scrollback.

import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { Unicode11Addon } from '@xterm/addon-unicode11';
import { Terminal as Xterm } from '@xterm/xterm';
import { askLink } from './ask';
import { dark, onPrefs, prefs } from './prefs';
import { strictDocument } from './strict-document';

export interface Typing {
  typed(bytes: Uint8Array): void;
  pasted(text: string): void;
  /** True while the terminal may answer what the VM asks of it. */
  mayAnswer(): boolean;
}

export interface Shape {
  readonly fontSize?: number;
  readonly label: string;
  readonly scrollback?: number;
  /** Nobody types here, and it takes no focus. */
  readonly picture?: boolean;
  /** As large as the recording was, whatever the room. */
  readonly size?: { cols: number; rows: number };
}

export class Terminal {
  readonly xterm: Xterm;
  readonly #fit = new FitAddon();
  readonly #search = new SearchAddon();
  readonly #stop: () => void;
  readonly #watch: ResizeObserver;
  results = '';

  constructor(
    readonly element: HTMLElement,
    private readonly shape: Shape,
    private readonly typing: Typing | null,
  ) {
    this.xterm = new Xterm({
      allowProposedApi: true,
      cursorBlink: false,
      customGlyphs: true,
      disableStdin: true,
      documentOverride: strictDocument(document),
      fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
      fontSize: shape.fontSize ?? prefs.fontSize,
      linkHandler: { activate: (_event, url) => askLink(url), allowNonHttpProtocols: false },
      minimumContrastRatio: 4.5,
      screenReaderMode: prefs.screenReader,
      scrollback: shape.scrollback ?? 20_000,
      theme: colours(),
      windowOptions: {},
      ...(shape.size ?? {}),
    });
    this.xterm.loadAddon(this.#fit);
    this.xterm.loadAddon(this.#search);
    this.xterm.loadAddon(new Unicode11Addon());
    this.xterm.unicode.activeVersion = '11';
    this.#quieten();
    this.xterm.open(element);
    // What came is in the terminal's buffer: for whoever measures how soon that is.
    this.xterm.onWriteParsed(() => element.dispatchEvent(new Event('parsed')));
    const input = this.xterm.textarea;
    if (input !== undefined) {
      input.setAttribute('aria-label', shape.label);
      if (shape.picture === true) input.tabIndex = -1;
    }
    if (typing !== null) this.#listen(typing);
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) => {
      this.results = resultCount === 0 ? 'Not found' : `${resultIndex + 1} of ${resultCount}`;
      this.onresults();
    });
    this.#watch = new ResizeObserver(() => this.fit());
    this.#watch.observe(element);
    const off = onPrefs(() => this.#prefs());
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const themed = (): void => this.#prefs();
    scheme.addEventListener('change', themed);
    this.#stop = () => {
      off();
      scheme.removeEventListener('change', themed);
    };
    this.fit();
  }

  onresults: () => void = () => undefined;

  set writable(may: boolean) {
    this.xterm.options.disableStdin = !may;
    this.xterm.options.cursorStyle = may ? 'block' : 'underline';
  }

  write(bytes: Uint8Array | string, done?: () => void): void {
    this.xterm.write(bytes, done);
  }

  /** A line of the page's own between the VM's, in its own colour; from a fixed set of sentences. */
  note(words: string): void {
    const fresh = this.xterm.buffer.active.cursorX === 0 ? '' : '\r\n';
    this.xterm.write(`${fresh}\x1b[0;7m ${words} \x1b[0m\r\n`);
  }

  find(words: string, back: boolean): void {
    const options = {
      incremental: false,
      decorations: {
        matchBackground: '#8a6d00',
        activeMatchBackground: '#c05000',
        matchOverviewRuler: '#8a6d00',
        activeMatchColorOverviewRuler: '#c05000',
      },
    };
    if (words === '') this.clearFind();
    else if (back) this.#search.findPrevious(words, options);
    else this.#search.findNext(words, options);
  }

  clearFind(): void {
    this.results = '';
    this.#search.clearDecorations();
    this.onresults();
  }

  fit(): void {
    if (this.shape.size !== undefined || this.element.clientWidth < 20 || this.element.clientHeight < 20) return;
    this.#fit.fit();
  }

  focus(): void {
    this.xterm.focus();
  }

  dispose(): void {
    this.#stop();
    this.#watch.disconnect();
    this.xterm.dispose();
  }

  #prefs(): void {
    const { options } = this.xterm;
    options.theme = colours();
    if (this.shape.fontSize === undefined) options.fontSize = prefs.fontSize;
    options.screenReaderMode = prefs.screenReader;
    this.fit();
  }

  #listen(typing: Typing): void {
    const encoder = new TextEncoder();
    this.xterm.onData((data) => {
      // Reports of focus would be typed to whatever runs there now; they can be asked for among other modes.
      if (data !== '\x1b[I' && data !== '\x1b[O') typing.typed(encoder.encode(data));
    });
    this.xterm.onBinary((data) => typing.typed(Uint8Array.from(data, (c) => c.charCodeAt(0) & 0xff)));
    // xterm.js sends capitals and spaces at their `keypress` and lets the browser put them into its hidden field
    // as well, where only screen readers look for them. The browser would draw that field anew, and hand on
    // nothing from the network, the echo among it, before it has.
    this.element.addEventListener('keypress', (event) => {
      const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
      if (plain && this.xterm.options.screenReaderMode !== true) event.preventDefault();
    });
    // Before xterm.js sees it: a paste is asked about first.
    this.element.addEventListener(
      'paste',
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        typing.pasted(event.clipboardData?.getData('text/plain') ?? '');
      },
      true,
    );
  }

  /** Takes sequences away that would reach beyond the terminal, or have it type by itself. */
  #quieten(): void {
    const { parser } = this.xterm;
    const ignored = (): boolean => true;
    // Titles, the working directory, notifications, the clipboard, programs' own.
    for (const code of [0, 1, 2, 7, 9, 50, 52, 99, 133, 633, 777, 1337]) parser.registerOscHandler(code, ignored);
    const unlessAsked = (): boolean => !(this.typing?.mayAnswer() ?? false);
    const questions = [{ final: 'c' }, { prefix: '>', final: 'c' }, { prefix: '=', final: 'c' }, { final: 'n' }];
    for (const id of [...questions, { prefix: '?', final: 'n' }]) parser.registerCsiHandler(id, unlessAsked);
    for (const prefix of ['', '?']) {
      parser.registerCsiHandler({ ...(prefix && { prefix }), intermediates: '$', final: 'p' }, ignored);
    }
    parser.registerCsiHandler({ final: 't' }, ignored);
    parser.registerDcsHandler({ intermediates: '$', final: 'q' }, ignored);
    // Colours may be set; asked for, they would be typed.
    for (const code of [4, 10, 11, 12]) parser.registerOscHandler(code, (data) => data.includes('?'));
  }
}

function colours(): Record<string, string> {
  return dark()
    ? {
        background: '#0f1419',
        foreground: '#d5dbe1',
        cursor: '#d5dbe1',
        cursorAccent: '#0f1419',
        selectionBackground: '#33506b',
        black: '#1d242b',
        brightBlack: '#7d8893',
      }
    : {
        background: '#fbfcfd',
        foreground: '#1c2329',
        cursor: '#1c2329',
        cursorAccent: '#fbfcfd',
        selectionBackground: '#b9d6ee',
        black: '#1c2329',
        red: '#b3261e',
        green: '#1d6b2c',
        yellow: '#7a5600',
        blue: '#1a56a8',
        magenta: '#86339a',
        cyan: '#0b6570',
        white: '#5c6670',
        brightBlack: '#59636d',
        brightRed: '#b3261e',
        brightGreen: '#1d6b2c',
        brightYellow: '#7a5600',
        brightBlue: '#1a56a8',
        brightMagenta: '#86339a',
        brightCyan: '#0b6570',
        brightWhite: '#1c2329',
      };
}
