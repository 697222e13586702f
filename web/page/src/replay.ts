// What a console printed in a span of time, played again as it was, with a bar to move in it.

import { cast, type Ref } from './api';
import { button, h, iconButton, icon, setText } from './dom';
import { parseCast, Player } from './cast';
import { Terminal } from './terminal';
import { clock, sentence } from './words';

export class Replay {
  readonly element: HTMLElement;
  readonly #stage = h('div', { class: 'stage' });
  readonly #status = h('div', { class: 'empty', role: 'status' });
  readonly #stop = new AbortController();
  #terminal: Terminal | null = null;
  #frame = 0;

  constructor(
    private readonly ref: Ref & { name: string },
    close: () => void,
  ) {
    const minutes = h('select', { class: 'field', 'aria-label': 'How far back' });
    for (const [value, words] of SPANS) minutes.append(h('option', { value }, words));
    const until = h('input', { class: 'field', type: 'datetime-local', 'aria-label': 'Until (empty: now)' });
    const load = (): void => void this.#load(Number(minutes.value), until.value);
    this.element = h(
      'section',
      { class: 'replay', 'aria-label': `Replay of ${ref.name || ref.id}` },
      h(
        'header',
        { class: 'pane-head' },
        h('h2', { class: 'pane-name' }, `Replay of ${ref.name || ref.id}`),
        h('span', { class: 'grow' }),
        h('label', { class: 'inline' }, 'The last', minutes),
        h('label', { class: 'inline' }, 'until', until),
        button('Load', load),
        iconButton('close', 'Close replay', close),
      ),
      this.#status,
      this.#stage,
    );
    minutes.value = '10';
    load();
  }

  dispose(): void {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
    this.#terminal?.dispose();
    this.element.remove();
  }

  async #load(minutes: number, until: string): Promise<void> {
    this.#clear();
    this.#say('Loading the log…');
    const end = until === '' ? Date.now() : new Date(until).getTime();
    const at = (ms: number): string => `@${Math.round(ms)}`;
    try {
      const text = await cast(this.ref, at(end - minutes * 60_000), until === '' ? '' : at(end), this.#stop.signal);
      const recording = parseCast(text);
      if (recording.events.length === 0) this.#say('Nothing was printed in this time.');
      else this.#show(recording);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#say(`The log cannot be replayed. ${sentence((error as Error).message)}`);
    }
  }

  #clear(): void {
    cancelAnimationFrame(this.#frame);
    this.#terminal?.dispose();
    this.#terminal = null;
    this.#stage.replaceChildren();
  }

  #say(words: string): void {
    this.#status.hidden = false;
    this.#status.replaceChildren(h('p', {}, words));
  }

  #show(recording: ReturnType<typeof parseCast>): void {
    this.#status.hidden = true;
    const holder = h('div', { class: 'terminal scrolls' });
    const play = h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Play' }, icon('play'));
    const bar = h('input', {
      type: 'range',
      class: 'time',
      min: '0',
      max: String(Math.max(0.001, recording.length)),
      step: 'any',
      value: '0',
      'aria-label': 'Time',
    });
    const time = h('span', { class: 'time-word' });
    const speed = h('select', { class: 'field', 'aria-label': 'Speed' });
    for (const n of [0.5, 1, 2, 4, 16]) speed.append(h('option', { value: n }, `${n}×`));
    speed.value = '1';
    const idle = h('input', { type: 'checkbox', checked: true });
    this.#stage.replaceChildren(
      holder,
      h('div', { class: 'transport' }, play, bar, time, speed, h('label', { class: 'inline' }, idle, 'Skip silence')),
    );
    const size = { cols: recording.cols, rows: recording.rows };
    const terminal = new Terminal(holder, { label: 'Recording', picture: true, size }, null);
    this.#terminal = terminal;
    const player = new Player(recording, { reset: () => terminal.xterm.reset(), write: (t) => terminal.write(t) }, 2);

    const draw = (): void => {
      bar.value = String(player.at);
      const began = recording.began;
      const day = began === null ? '' : ` · ${new Date((began + player.at) * 1000).toLocaleString()}`;
      setText(time, `${clock(player.at)} / ${clock(recording.length)}${day}`);
      bar.setAttribute('aria-valuetext', `${clock(player.at)} of ${clock(recording.length)}`);
      const label = player.playing ? 'Pause' : 'Play';
      if (play.getAttribute('aria-label') !== label) {
        play.setAttribute('aria-label', label);
        play.replaceChildren(icon(player.playing ? 'pause' : 'play'));
      }
    };
    const tick = (): void => {
      player.tick(performance.now());
      draw();
      if (player.playing) this.#frame = requestAnimationFrame(tick);
    };
    const toggle = (): void => {
      if (player.playing) player.pause();
      else player.play(performance.now());
      tick();
    };
    play.addEventListener('click', toggle);
    bar.addEventListener('input', () => {
      player.seek(Number(bar.value));
      draw();
    });
    speed.addEventListener('change', () => (player.speed = Number(speed.value)));
    idle.addEventListener('change', () => (player.idle = idle.checked ? 2 : 0));
    player.seek(0);
    draw();
    play.focus();
  }
}

const SPANS: ReadonlyArray<readonly [number, string]> = [
  [10, '10 minutes'],
  [60, 'hour'],
  [6 * 60, '6 hours'],
  [24 * 60, 'day'],
];
