// How soon the page shows 10 000 consoles of a real gateway, and how soon it filters them: medians of ROUNDS; how
// soon a key is in the terminal again, beside a key at the console's port.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { open, stop } from '../browser/browser.mjs';
import { lendPage, Servers, withoutServers as skip } from '../browser/servers.mjs';

const COUNT = 10_000;
const ROUNDS = 5;
const KEYS = 300;
after(stop);

/** What a VM says first (docs/protocol/vmware.md §2). */
function hello(n) {
  const message = (words) => Buffer.concat([Buffer.from([255, 250, 232]), words, Buffer.from([255, 240])]);
  const digits = n.toString(16).padStart(8, '0').match(/../g).join(' ');
  return Buffer.concat([
    Buffer.from([255, 251, 232, 255, 253, 0, 255, 253, 3, 255, 251, 0, 255, 251, 3]),
    message(Buffer.from([0, 0, 1, 2, 3, 70, 71, 73, 80, 81, 82, 83])),
    message(Buffer.from('\x46Stest')),
    message(Buffer.from(`\x5000 11 22 33 44 55 66 77-88 99 aa bb ${digits}`)),
    message(Buffer.from(`\x52${['web', 'db', 'mail', 'build'][n % 4]}-${String(n).padStart(5, '0')}`)),
  ]);
}

const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];

test('10 000 consoles are there within a second, and filtered within 50 ms', { skip, timeout: 600_000 }, async (t) => {
  const servers = new Servers();
  t.after(() => servers.close());
  const east = await servers.concentrator(undefined, ['--no-vm-ports', '--max-consoles', '20000']);
  const gateway = await servers.gateway({ east });
  const known = async () => (await (await fetch(`${gateway.url}api/v1/servers`)).json()).servers[0].consoles;
  for (let n = 1; n <= COUNT; n += 50) {
    // They go as soon as they are known, and their consoles stay.
    const some = Array.from({ length: 50 }, (_, i) => {
      const socket = connect(east.vms, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.resume();
      socket.write(hello(n + i));
      return socket;
    });
    while ((await known()) < n + 49) await new Promise((resolve) => setTimeout(resolve, 20));
    const ends = some.map((socket) => once(socket, 'close'));
    some.forEach((socket) => socket.destroy());
    await Promise.all(ends);
  }
  const figures = { painted: [], rows: [], all: [], filtered: [] };
  for (let round = 0; round < ROUNDS; round += 1) {
    const { page, faults, close } = await open(gateway.url, { before: (context) => lendPage(context, gateway) });
    await page.locator('.total', { hasText: '10,000 consoles' }).waitFor({ timeout: 60_000 });
    await page.waitForFunction(() => performance.getEntriesByName('synced').length > 0);
    const at = (name) => page.evaluate((n) => performance.getEntriesByName(n)[0].startTime, name);
    figures.painted.push(await at('first-contentful-paint'));
    figures.rows.push(await at('first rows'));
    figures.all.push(await at('synced'));
    for (const words of ['web 12', 'host:nowhere', 'db-']) {
      figures.filtered.push(
        await page.evaluate(async (wanted) => {
          const filter = document.querySelector('.filter');
          const began = performance.now();
          filter.value = wanted;
          filter.dispatchEvent(new Event('input'));
          await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
          return performance.now() - began;
        }, words),
      );
    }
    await close();
    assert.deepEqual(faults, []);
  }
  for (const [name, all] of Object.entries(figures)) {
    t.diagnostic(`${name}: median ${Math.round(median(all))} ms of ${all.map(Math.round).join(', ')}`);
  }
  assert.ok(median(figures.rows) <= 1000, 'the first rows');
  assert.ok(median(figures.filtered) <= 50, 'the filter');
});

/** A client at a console's port that types `x`: how long its echo takes, in ms. */
async function typist(port) {
  const socket = connect(port, '127.0.0.1');
  socket.setNoDelay(true);
  await once(socket, 'connect');
  let came = () => undefined;
  socket.on('data', (data) => {
    if (data.includes('x')) came();
  });
  const key = async () => {
    const echo = new Promise((resolve) => (came = resolve));
    const began = performance.now();
    socket.write('x');
    await echo;
    return performance.now() - began;
  };
  return { key, close: () => socket.destroy() };
}

/** What is typed: keys that xterm.js sends when they go down, and such that it sends at their `keypress`. */
const WORDS = [...'ls -l /Var/Log; cat Some_File | less ', 'Enter'];

/** Between two keys of a quick typist, and more than the 33 ms of a key that is held down. Not a multiple of a
 * frame, so that a key comes at any time within one. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 45 + 20 * Math.random()));

test('a key is in the terminal again within 5 ms of one at the port', { skip, timeout: 180_000 }, async (t) => {
  const servers = new Servers();
  t.after(() => servers.close());
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '0']);
  const gateway = await servers.gateway({ east });
  const before = (context) => lendPage(context, gateway);
  const { page, faults, close } = await open(`${gateway.url}#/open/east/web-01`, { before });
  await page.locator('.chip', { hasText: 'Writing' }).waitFor();
  await page.locator('.pane .xterm').click();
  const { port } = await (await fetch(`${gateway.url}api/v1/consoles/web-01`)).json();
  const client = await typist(port);
  await client.key();
  await page.evaluate(() => {
    // From the event's own time on: what it waits for before script sees it counts as well.
    let began;
    const figure = { count: 0, last: undefined, told: () => undefined };
    document.addEventListener('keydown', (event) => (began = event.timeStamp), { capture: true });
    document.querySelector('.pane .xterm').parentElement.addEventListener('parsed', () => {
      figure.count += 1;
      if (began !== undefined) figure.last = performance.now() - began;
      began = undefined;
      figure.told();
    });
    globalThis.figure = figure;
  });
  /** How long the key took that `act` has pressed, if it was one. No polling, which would have the page draw. */
  const parsed = async (act) => {
    const before = await page.evaluate(() => {
      globalThis.figure.last = undefined;
      return globalThis.figure.count;
    });
    await act();
    return page.evaluate(async (n) => {
      const { figure } = globalThis;
      while (figure.count <= n) await new Promise((resolve) => (figure.told = resolve));
      return figure.last;
    }, before);
  };
  const both = async (figures, n, wait) => {
    // What the client has typed comes to the page, too, and is drawn while one waits.
    await parsed(async () => figures.port.push(await client.key()));
    await wait();
    figures.page.push(await parsed(() => page.keyboard.press(WORDS[n % WORDS.length])));
    await wait();
  };
  const paced = { page: [], port: [] };
  for (let n = 0; n < KEYS; n += 1) await both(paced, n, pause);
  const rushed = { page: [], port: [] };
  for (let n = 0; n < KEYS; n += 1) await both(rushed, n, async () => {});
  client.close();
  await close();
  assert.deepEqual(faults, []);
  const most = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length * 0.99)];
  for (const [how, figures] of Object.entries({ paced, rushed })) {
    for (const [name, all] of Object.entries(figures)) {
      const [p50, p99] = [median(all), most(all)].map((ms) => ms.toFixed(2));
      t.diagnostic(`key, ${how}, ${name}: p50 ${p50} ms, p99 ${p99} ms of ${all.length}`);
    }
  }
  assert.ok(median(paced.page) - median(paced.port) <= 5, 'the page, as one types');
  // A key before the last echo is drawn: Chromium hands on nothing from the network until it is, a frame at most.
  assert.ok(median(rushed.page) - median(rushed.port) <= 17, 'the page, faster than anybody');
});
