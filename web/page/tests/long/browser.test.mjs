// What a tab stands in a day, in minutes: floods, programs that are killed, VMs that move and reboot. Beside the
// real programs. LONG_SECONDS (60) is how long the flood lasts; pictures go to target/long/web_browser.
import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, test } from 'node:test';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { missing, open, screen, stop, until } from '../browser/browser.mjs';
import { lendPage, Servers, withoutServers as skip } from '../browser/servers.mjs';
import { Gateway, vm } from '../mock/gateway.mjs';

const SECONDS = Number(process.env.LONG_SECONDS ?? 60);
/** So many each 10 ms. */
const LINES = 20;
const PICTURES = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../../../target/long/web_browser');
const ENDS = ['net::', 'WebSocket', '502', '503', '404'];

let servers;
let opened = [];
beforeEach(async () => {
  servers = new Servers();
  await mkdir(PICTURES, { recursive: true });
});
afterEach(async () => {
  const faults = opened.flatMap((one) => one.faults);
  for (const one of opened.splice(0)) await one.close();
  await servers.close();
  assert.deepEqual(faults, []);
});
after(stop);

async function visit(gateway, hash = '', more = {}) {
  const one = await open(gateway.url + hash, { expect: ENDS, before: (context) => lendPage(context, gateway), ...more });
  opened.push(one);
  return one.page;
}
const picture = (page, name) => page.screenshot({ path: path.join(PICTURES, `${name}.png`) });
const writes = (page) => page.locator('.chip', { hasText: 'Writing' }).first().waitFor({ timeout: 30_000 });
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const sees = (page, words, ms = 30_000) =>
  until(`the screen shows ${words}`, async () => (await screen(page)).includes(words), ms);

/** What comes on the page's websockets, as text, from the moment that one is opened. */
function heard(page) {
  const all = { text: '' };
  page.on('websocket', (socket) =>
    socket.on('framereceived', ({ payload }) => {
      if (typeof payload !== 'string') all.text = (all.text + payload.toString('latin1')).slice(-4_000_000);
    }),
  );
  return all;
}

/** Bytes of script that the page holds once what is garbage has gone. */
async function memory(page) {
  const inspector = await page.context().newCDPSession(page);
  await inspector.send('HeapProfiler.collectGarbage');
  await inspector.send('Performance.enable');
  const { metrics } = await inspector.send('Performance.getMetrics');
  await inspector.detach();
  return metrics.find((one) => one.name === 'JSHeapUsedSize').value;
}

/**
 * How many whole lines are on the screen, from where a server that was started again has begun anew: each has to
 * follow the one before.
 */
async function follow(page) {
  const lines = (await screen(page)).split('The output begins anew here').at(-1);
  const numbers = [...lines.matchAll(/^tick (\d+)$/gm)].map((found) => Number(found[1]));
  for (let i = 1; i < numbers.length; i += 1) assert.equal(numbers[i], numbers[i - 1] + 1, `${numbers}`);
  return numbers.length;
}

test('2000 lines a second neither freeze a tab nor fill its memory', { skip, timeout: SECONDS * 2000 + 120_000 }, async (t) => {
  const east = await servers.concentrator();
  const line = 'a line of some length, as programs that are in trouble print them again and again, 0123456789';
  await servers.vm('flood', east, ['--every', '10ms', '--print', Array(LINES).fill(line).join('\r\n')]);
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway);
  const came = heard(page);
  await page.locator('.row').first().click();
  await writes(page);
  await page.evaluate(() => {
    let last = performance.now();
    window.longest = 0;
    const look = () => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - last);
      last = now;
      requestAnimationFrame(look);
    };
    look();
  });
  const blocks = () => until('lines come', () => Number([...came.text.matchAll(/0123456789 (\d+)\r/g)].at(-1)?.[1]));
  const [began, before] = [Date.now(), await blocks()];
  const [echoes, figures] = [[], []];
  let typed = '';
  await page.locator('.pane .xterm').click();
  while (Date.now() - began < SECONDS * 1000) {
    const key = 'qwxz'[echoes.length % 4];
    typed += key;
    came.text = '';
    const at = Date.now();
    await page.keyboard.press(key);
    // The VM writes what is typed behind its prompt, again after each line that it prints.
    await until(`${key} comes back`, () => came.text.includes(`> ${typed}`), 5000);
    echoes.push(Date.now() - at);
    // The scrollback is full after a quarter of the time at the latest: what is held then stays as it is.
    if (Date.now() - began > SECONDS * 250 * (figures.length + 1)) figures.push(await memory(page));
    await wait(500);
  }
  figures.push(await memory(page));
  const rate = (((await blocks()) - before) / (Date.now() - began)) * 1000 * LINES;
  const longest = await page.evaluate(() => window.longest);
  await picture(page, 'flood');
  echoes.sort((a, b) => a - b);
  const of = (part) => echoes[Math.floor((echoes.length - 1) * part)];
  t.diagnostic(`${Math.round(rate)} lines/s; key to echo p50 ${of(0.5)} ms, p90 ${of(0.9)} ms, most ${of(1)} ms, of ${echoes.length}`);
  t.diagnostic(`longest time without a frame ${Math.round(longest)} ms`);
  t.diagnostic(`script's memory ${figures.map((n) => `${(n / 1e6).toFixed(1)} MB`).join(', ')}`);
  assert.ok(rate > 1000, `${rate}`);
  assert.ok(of(0.9) < 1000 && longest < 5000, `${of(0.9)} ${longest}`);
  assert.ok(figures.at(-1) < figures[0] * 1.25 + 10e6, `${figures}`);
});

test('two tabs at one console show the same, and each what the other types', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '100ms', '--print', 'tick']);
  const gateway = await servers.gateway({ east });
  const one = await visit(gateway, '#/open/east/web-01');
  const other = await one.context().newPage();
  await other.goto(`${gateway.url}#/open/east/web-01`);
  for (const page of [one, other]) await writes(page);
  for (const [at, seen, words] of [[one, other, 'from one'], [other, one, 'from other']]) {
    await at.bringToFront();
    await at.locator('.pane .xterm').click();
    await at.keyboard.type(`\n${words}`, { delay: 0 });
    await seen.bringToFront();
    await until(words, async () => (await screen(seen)).includes(words.slice(-4)));
  }
  await one.getByRole('button', { name: '2 here' }).waitFor();
  await other.close();
  await one.getByRole('button', { name: '1 here' }).waitFor();
});

test('the gateway and the server are killed and come back while a console is open', { skip }, async () => {
  let east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '50ms', '--print', 'tick']);
  let gateway = await servers.gateway({ east });
  const page = await visit(gateway, '#/open/east/web-01');
  for (let round = 0; round < 3; round += 1) {
    await writes(page);
    await sees(page, 'tick');
    await servers.stop(gateway.child);
    await page.getByText('The link is lost').waitFor();
    if (round === 0) await picture(page, 'gateway-killed');
    gateway = await servers.gateway({ east }, gateway.port);
    await writes(page);
    // No byte is missing: the server has kept them.
    await until('several lines have come', async () => (await follow(page)) > 5);
    await servers.stop(east.child);
    await until('it is lost', async () => (await page.locator('.chip', { hasText: 'Writing' }).count()) === 0);
    if (round === 0) await picture(page, 'server-killed');
    east = await servers.concentrator(east);
    await writes(page);
    const before = await screen(page);
    await until('it goes on', async () => (await screen(page)) !== before, 30_000);
  }
});

test('a VM that moves and reboots is shown whole, and says where it is', { skip, timeout: 180_000 }, async () => {
  const east = await servers.concentrator();
  await servers.vm('mover', east, ['--every', '20ms', '--print', 'tick', '--vmotion-every', '1s']);
  await servers.vm('rebooter', east, ['--every', '20ms', '--print', 'tick', '--reboot-every', '4s', '--reboot-takes', '2s']);
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway, '#/open/east/mover');
  const came = heard(page);
  await page.reload();
  await writes(page);
  const end = Date.now() + Math.min(SECONDS, 20) * 1000;
  while (Date.now() < end) await wait(250);
  const numbers = [...came.text.matchAll(/tick (\d+)\r\n/g)].map((found) => Number(found[1]));
  assert.ok(numbers.length > 200, `${numbers.length}`);
  for (let i = 1; i < numbers.length; i += 1) assert.equal(numbers[i], numbers[i - 1] + 1, `at ${i}`);
  await picture(page, 'moves');
  const rebooting = await visit(gateway, '#/open/east/rebooter');
  for (let round = 0; round < 3; round += 1) {
    await rebooting.getByText('The VM is not connected').waitFor({ timeout: 30_000 });
    if (round === 0) await picture(rebooting, 'rebooting');
    await rebooting.getByText('The VM is not connected').waitFor({ state: 'hidden', timeout: 30_000 });
    await writes(rebooting);
  }
});

test('a paste of 100 kB arrives as it is, byte for byte', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '0']);
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway, '#/open/east/web-01');
  await writes(page);
  let state = 1;
  const line = () => Array.from({ length: 499 }, () => {
    state = (state * 48_271) % 2_147_483_647;
    return String.fromCharCode(33 + (state % 94));
  });
  const lines = Array.from({ length: 200 }, () => line().join(''));
  const text = `${lines.join('\n')}\n`;
  await page.evaluate((clip) => {
    const data = new DataTransfer();
    data.setData('text/plain', clip);
    const event = new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
    document.querySelector('.pane .xterm-helper-textarea').dispatchEvent(event);
  }, text);
  await page.getByRole('dialog').getByRole('button', { name: 'Paste' }).click();
  // The VM says of each line what it was.
  const log = async () => (await fetch(`${gateway.url}api/v1/consoles/web-01/log?format=raw`)).text();
  const said = async () => [...(await log()).matchAll(/you typed: (.*)\r\n/g)].map((found) => found[1]);
  await until('it has said all of it', async () => (await said()).length >= lines.length, 60_000);
  assert.deepEqual(await said(), lines);
});

test('pictures of the list and of a console, for docs/images', { skip: missing }, async () => {
  const consoles = Array.from({ length: 9 }, (_, i) => vm(i));
  const mock = new Gateway(consoles);
  const gateway = { url: await mock.listen() };
  try {
    const small = { width: 880, height: 350 };
    const list = await visit(gateway, '', small);
    await list.locator('.row').nth(8).waitFor();
    for (let round = 0; round < 6; round += 1) {
      for (const c of consoles) c.out += c.state === 'connected' ? (Number.parseInt(c.id, 10) * 7919 + round * 104_729) % 5000 : 0;
      mock.counts(consoles.map(({ server, id, out, last_line }) => ({ server, id, out, idle_ms: 0, last_line })));
      await wait(1100);
    }
    await picture(list, 'list');
    const kernel = ['Linux version 6.1.0-28-amd64', 'Command line: console=ttyS0 root=/dev/sda1', 'Memory: 2048 MB',
      'EXT4-fs (sda1): mounted filesystem', 'eth0: link up, 10000 Mbit/s'];
    mock.print(consoles[0], kernel.map((line, n) => `[    ${n}.${123_456 + n * 9173}] ${line}\r\n`).join(''));
    mock.print(consoles[0], '[  \x1b[32mOK\x1b[0m  ] Reached target Multi-User System.\r\n\r\nDebian GNU/Linux 12 web-01 ttyS0\r\n\r\nweb-01 login: ');
    const console = await visit(gateway, '#/open/east/web-01', { ...small, scheme: 'dark' });
    await writes(console);
    await sees(console, 'login:');
    await picture(console, 'console');
  } finally {
    mock.close();
  }
});
