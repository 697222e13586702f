// The page beside a real gateway, real concentrators and VMs that are played.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, afterEach, beforeEach, test } from 'node:test';
import { open, screen, stop, until } from './browser.mjs';
import { lendPage, Servers, withoutServers as skip } from './servers.mjs';

let servers;
let opened = [];
beforeEach(() => {
  servers = new Servers();
});
afterEach(async () => {
  const faults = opened.flatMap((one) => one.faults);
  for (const one of opened.splice(0)) await one.close();
  await servers.close();
  assert.deepEqual(faults, []);
});
after(stop);

async function visit(gateway, hash = '', expect = []) {
  const one = await open(gateway.url + hash, { expect, before: (context) => lendPage(context, gateway) });
  opened.push(one);
  return one.page;
}
const row = (page, name) => page.locator('.row', { hasText: name });
const sees = (page, words, where) =>
  until(`the screen shows ${words}`, async () => (await screen(page, where)).includes(words), 15_000);
const writes = (page) => page.locator('.chip', { hasText: 'Writing' }).waitFor();

test('a console is listed, shows what its VM printed, and takes what is typed', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '200ms', '--print', 'tick']);
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway);
  await row(page, 'web-01').getByText('Connected').waitFor();
  await row(page, 'web-01').click();
  await sees(page, 'tick');
  await writes(page);
  await page.locator('.pane .xterm').click();
  await page.keyboard.type('hello from the page');
  await sees(page, 'hello from the page');
  await page.getByRole('button', { name: /here/ }).click();
  await page.getByRole('listitem').first().waitFor();
});

test('a paste of 100 kB comes back whole from a VM that echoes', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '0']);
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway, '#/open/east/web-01');
  await writes(page);
  const text = Array.from({ length: 2000 }, (_, i) => `${String(i).padStart(5, '0')} ${'abcdefgh'.repeat(6)}`).join('');
  await page.evaluate((clip) => {
    const data = new DataTransfer();
    data.setData('text/plain', clip);
    const event = new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
    document.querySelector('.pane .xterm-helper-textarea').dispatchEvent(event);
  }, text);
  await page.getByRole('dialog').getByRole('button', { name: 'Paste' }).click();
  await sees(page, text.slice(-40));
  const typed = async () => (await (await fetch(`${gateway.url}api/v1/consoles/web-01`)).json()).in;
  await until('the server counts all of it', async () => (await typed()) >= text.length);
  assert.equal(await typed(), text.length);
});

test('a gateway that dies and comes back is met again, and nothing is missed', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '100ms', '--print', 'tick']);
  const first = await servers.gateway({ east });
  const page = await visit(first, '#/open/east/web-01', ['net::', 'WebSocket', '502', '503', '404']);
  await sees(page, 'tick');
  await writes(page);
  await servers.stop(first.child);
  await page.getByText('The link is lost and tried').waitFor();
  await page.locator('.link-bar').waitFor();
  await servers.gateway({ east }, first.port);
  await writes(page);
  await page.locator('.link-bar').waitFor({ state: 'hidden' });
  const before = await screen(page);
  await until('it goes on', async () => (await screen(page)) !== before);
  // The lines are numbered: each follows the one before.
  const numbers = [...(await screen(page)).matchAll(/^tick (\d+)$/gm)].map((found) => Number(found[1]));
  assert.ok(numbers.length > 5);
  for (let i = 1; i < numbers.length; i += 1) assert.equal(numbers[i], numbers[i - 1] + 1, `${numbers}`);
  // Its token is another one now; the page has asked for it.
  await page.locator('.pane').getByRole('button', { name: 'More' }).click();
  await page.getByRole('menuitem', { name: 'Send the others away' }).click();
  await page.keyboard.press('Enter');
  await page.getByText('The others were sent away.').waitFor();
});

test('of two concentrators one that is down keeps its consoles in the list, and comes back', { skip }, async () => {
  const east = await servers.concentrator();
  const west = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '0']);
  await servers.vm('db-01', west, ['--every', '0']);
  const gateway = await servers.gateway({ east, west });
  const page = await visit(gateway);
  await row(page, 'web-01').getByText('Connected').waitFor();
  await row(page, 'db-01').getByText('Connected').waitFor();
  await servers.stop(west.child);
  await page.locator('.server.down', { hasText: 'west: down' }).waitFor();
  await row(page, 'db-01').getByText('Unknown').waitFor();
  await row(page, 'web-01').getByText('Connected').waitFor();
  await servers.concentrator(west);
  await page.locator('.server', { hasText: /^west$/ }).waitFor();
  await row(page, 'db-01').getByText('Connected').waitFor();
});

test('an exclusive lock keeps others out until it is given up', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '0']);
  const gateway = await servers.gateway({ east });
  const ann = await visit(gateway, '#/open/east/web-01');
  await writes(ann);
  const choose = async (page, name) => {
    await page.locator('.pane').getByRole('button', { name: 'More' }).click();
    await page.getByRole('menuitem', { name }).click();
  };
  await choose(ann, 'Lock for writing');
  await ann.locator('.chip', { hasText: 'write lock' }).waitFor();
  const bob = await visit(gateway, '#/open/east/web-01');
  await bob.locator('.chip', { hasText: 'Watching' }).waitFor();
  await bob.getByText('holds the write lock').waitFor();
  await choose(ann, 'Release the lock');
  await bob.locator('.chip', { hasText: 'Watching' }).click();
  await writes(bob);
});

test('one logs in, types, shares the console by a link, and takes that back', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '200ms', '--print', 'tick']);
  const people = await servers.people({ ann: 'write', rob: 'read' });
  const gateway = await servers.gateway({ east }, 0, people);
  const ends = ['401', 'net::', 'WebSocket'];
  const logIn = async (name) => {
    const page = await visit(gateway, '#/open/east/web-01', ends);
    await page.getByLabel('Name').fill(name);
    await page.getByLabel('Password').fill(name);
    await page.keyboard.press('Enter');
    await page.locator('.who', { hasText: name }).waitFor();
    return page;
  };
  const rob = await logIn('rob');
  await rob.locator('.chip', { hasText: 'Watching' }).waitFor();
  const ann = await logIn('ann');
  await writes(ann);
  await ann.locator('.pane .xterm').click();
  await ann.keyboard.type('hello from ann');
  await sees(ann, 'hello from ann');
  await sees(rob, 'hello from ann');
  await ann.locator('.pane').getByRole('button', { name: /here/ }).click();
  await ann.getByRole('listitem').filter({ hasText: 'rob@127.0.0.1' }).waitFor();
  await ann.keyboard.press('Escape');
  await ann.locator('.pane').getByRole('button', { name: 'More' }).click();
  await ann.getByRole('menuitem', { name: 'Share link' }).click();
  await ann.getByRole('button', { name: 'Make link' }).click();
  const link = ann.getByLabel('The link');
  await until('it is made', async () => (await link.inputValue()) !== '');
  const guest = await visit(gateway, (await link.inputValue()).slice(gateway.url.length), ends);
  await sees(guest, 'tick');
  await guest.locator('.chip', { hasText: 'Watching' }).waitFor();
  assert.equal(await guest.locator('.who, .row').count(), 0);
  await ann.getByRole('button', { name: 'Revoke' }).click();
  await guest.getByRole('alert').getByText('was revoked').waitFor();
  await ann.getByRole('button', { name: 'Close', exact: true }).click();
  await ann.getByRole('button', { name: 'Log out' }).click();
  await ann.getByLabel('Password').waitFor();
});

test('a log is downloaded as it was printed, and replayed', { skip }, async () => {
  const east = await servers.concentrator();
  await servers.vm('web-01', east, ['--every', '100ms', '--print', 'tick']);
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway, '#/open/east/web-01');
  await sees(page, 'tick 2');
  await page.locator('.pane').getByRole('button', { name: 'More' }).click();
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('menuitem', { name: 'Download log' }).click(),
  ]);
  assert.equal(download.suggestedFilename(), 'console.log');
  assert.match(await readFile(await download.path(), 'latin1'), /tick 1\r\n[^]*tick 2\r\n/);
  await page.locator('.pane').getByRole('button', { name: 'More' }).click();
  await page.getByRole('menuitem', { name: 'Replay' }).click();
  await page.getByLabel('Time', { exact: true }).waitFor();
  await page.getByLabel('Speed').selectOption('16');
  await page.getByRole('button', { name: 'Play', exact: true }).click();
  await sees(page, 'tick 2', '.replay');
});

test('what a guest tells of itself is shown at its console, and what is set for it', { skip }, async () => {
  const guest = await servers.agent('[facts]\nsite = "north <b>"\n');
  const east = await servers.concentrator(undefined, ['--line', `web-01=unix:${guest.line}?listen&mux=s2`]);
  await guest.start();
  const gateway = await servers.gateway({ east });
  const page = await visit(gateway, '#/open/east/web-01');
  await page.locator('.pane').getByRole('button', { name: 'Facts' }).click();
  const shown = page.getByRole('dialog', { name: 'Facts of web-01' });
  await shown.locator('dd', { hasText: /^north <b>$/ }).waitFor();
  await shown.locator('dt', { hasText: 'agent.version' }).waitFor();
  const body = JSON.stringify({ value: 'ann' });
  const url = `${gateway.url}api/v1/consoles/web-01/facts/owner`;
  const set = await fetch(url, { method: 'PUT', body, headers: { 'content-type': 'application/json' } });
  assert.equal(set.status, 200);
  await shown.locator('dd', { hasText: /^ann$/ }).waitFor();
});

test('a VM whose name is markup is a name in the list, in a console, on the wall, in a replay and by a link', { skip }, async () => {
  const evil = '<img src=x onerror="alert(1)">/+#?%41';
  const east = await servers.concentrator();
  await servers.vm(evil, east, ['--every', '200ms', '--print', evil]);
  const gateway = await servers.gateway({ east }, 0, await servers.people({ ann: 'write' }));
  const page = await visit(gateway, '', ['401']);
  await page.getByLabel('Name').fill('ann');
  await page.getByLabel('Password').fill('ann');
  await page.keyboard.press('Enter');
  await row(page, evil).click();
  await page.locator('.pane-name', { hasText: evil }).waitFor();
  await sees(page, evil);
  await page.reload();
  await page.locator('.pane-name', { hasText: evil }).waitFor();
  await sees(page, evil);
  await page.getByRole('button', { name: /here/ }).click();
  await page.getByRole('listitem').first().waitFor();
  await page.keyboard.press('Escape');
  await page.locator('h1 a').click();
  await page.keyboard.press('w');
  await page.locator('.tile-name', { hasText: evil }).waitFor();
  assert.equal(await page.locator('img').count(), 0);
  await page.locator('h1 a').click();
  await row(page, evil).click();
  const does = async (name) => {
    await page.locator('.pane').getByRole('button', { name: 'More' }).click();
    await page.getByRole('menuitem', { name }).click();
  };
  await does('Share link');
  await page.getByRole('button', { name: 'Make link' }).click();
  const link = page.getByLabel('The link');
  await until('it is made', async () => (await link.inputValue()) !== '');
  const guest = await visit(gateway, (await link.inputValue()).slice(gateway.url.length));
  await guest.locator('.pane-name', { hasText: evil }).waitFor();
  await sees(guest, evil);
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  await does('Replay');
  await page.getByRole('heading', { name: `Replay of ${evil}` }).waitFor();
  await page.getByLabel('Time', { exact: true }).waitFor();
  await page.getByLabel('Speed').selectOption('16');
  await page.getByRole('button', { name: 'Play', exact: true }).click();
  await sees(page, evil, '.replay');
  assert.equal((await page.locator('img').count()) + (await guest.locator('img').count()), 0);
});
