import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, test } from 'node:test';
import path from 'node:path';
import { missing, open, SHOTS, stop, until } from './browser.mjs';
import { Gateway, vm } from '../mock/gateway.mjs';

let gateway;
let opened;
const many = (n) => Array.from({ length: n }, (_, i) => vm(i));
async function begin(consoles, options) {
  gateway = new Gateway(consoles);
  opened = await open((await gateway.listen()) + (options?.hash ?? ''), options);
  return opened.page;
}
beforeEach(() => {
  opened = undefined;
});
afterEach(async () => {
  const faults = opened?.faults ?? [];
  await opened?.close();
  gateway?.close();
  assert.deepEqual(faults, []);
});
after(stop);

const shown = (page, n) => page.locator(`html[data-shown="${n}"]`).waitFor({ state: 'attached' });
const names = (page) =>
  page.locator('.row').evaluateAll((rows) =>
    rows.sort((a, b) => a.dataset.index - b.dataset.index).map((row) => row.querySelector('.c-name').textContent));

test('consoles are listed as they come, change and go', { skip: missing }, async () => {
  const page = await begin(many(40));
  await shown(page, 40);
  assert.equal((await names(page))[0], 'build-01');
  await page.screenshot({ path: path.join(SHOTS, 'list.png') });
  gateway.put({ ...vm(4), state: 'moving' });
  await page.locator('.row', { hasText: 'build-01' }).getByText('Moving').waitFor();
  gateway.put(vm(900, { name: 'aaa' }));
  await shown(page, 41);
  assert.equal((await names(page))[0], 'aaa');
});

test('of ten thousand consoles only those that are seen are drawn', { skip: missing }, async () => {
  const page = await begin(many(10_000));
  await page.locator('.row').first().waitFor();
  await shown(page, 10_000);
  const at = (name) =>
    page.evaluate((n) => Math.round(performance.getEntriesByName(n)[0]?.startTime ?? 0), name);
  const [painted, rows, all] = [await at('first-contentful-paint'), await at('first rows'), await at('synced')];
  assert.ok((await page.locator('.row').count()) < 80, 'only what is seen is drawn');
  const took = await page.evaluate(async () => {
    const filter = document.querySelector('.filter');
    const began = performance.now();
    filter.value = 'web 12';
    filter.dispatchEvent(new Event('input'));
    const scripted = performance.now() - began;
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    return { scripted, drawn: performance.now() - began };
  });
  console.log(`# 10 000 consoles: painted after ${painted} ms, rows ${rows} ms, all ${all} ms, ` +
    `filtered in ${took.scripted.toFixed(1)} ms, drawn ${took.drawn.toFixed(1)} ms`);
  await page.screenshot({ path: path.join(SHOTS, 'filter.png') });
});

test('the keyboard does it all: filter, move, open, leave', { skip: missing }, async () => {
  const page = await begin(many(40));
  await shown(page, 40);
  await page.keyboard.press('/');
  await page.keyboard.type('web');
  await shown(page, 8);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  const selected = page.locator('.row[aria-selected=true] .c-name');
  await until('it moved', async () => (await selected.textContent()) === 'web-02');
  await page.keyboard.press('Enter');
  await page.locator('.pane-name', { hasText: 'web-02' }).waitFor();
  await until('the terminal has focus', () => page.evaluate(() => document.activeElement.matches('.xterm-helper-textarea')));
  await page.keyboard.press('Control+Shift+L');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('role')), 'listbox');
  await page.keyboard.press('Escape');
  await page.locator('.pane').waitFor({ state: 'detached' });
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
});

test('a server that is down is shown so, with the consoles it had', { skip: missing }, async () => {
  const page = await begin(many(30));
  await shown(page, 30);
  gateway.server('west', 'down', 'connection refused');
  await page.locator('.server.down', { hasText: 'west: down' }).waitFor();
  await page.locator('.row.stale').first().waitFor();
  await page.screenshot({ path: path.join(SHOTS, 'server-down.png') });
  gateway.server('west', 'up');
  await page.locator('.row.stale').first().waitFor({ state: 'detached' });
});

test('a lost link is told of and heals without a reload', { skip: missing }, async () => {
  const page = await begin(many(5), { expect: ['503', 'ERR_INCOMPLETE', 'net::'] });
  await shown(page, 5);
  gateway.refuseChanges = true;
  gateway.cutChanges();
  await page.locator('.link-bar').waitFor();
  assert.equal(await page.locator('.row').count(), 5, 'what was known stays');
  gateway.consoles.delete(`${vm(0).server}/${vm(0).id}`);
  gateway.refuseChanges = false;
  await shown(page, 4);
  await page.locator('.link-bar').waitFor({ state: 'hidden' });
});

test('names are text, whatever is in them', { skip: missing }, async () => {
  const evil = '<img src=x onerror="alert(1)">';
  const page = await begin([vm(0, { name: evil, server: evil, host: evil, last_line: evil, lock: { mode: evil, by: evil } })]);
  await shown(page, 1);
  assert.deepEqual(await names(page), [evil]);
  await page.locator('.row').click();
  await page.locator('.pane-name', { hasText: evil }).waitFor();
  await page.locator('.pane').getByRole('button', { name: /here/ }).click();
  await page.getByRole('dialog').waitFor();
  assert.equal(await page.locator('img').count(), 0);
});

test('where nothing is, the page says why', { skip: missing }, async () => {
  const page = await begin([]);
  await page.getByText('No consoles yet').waitFor();
  gateway.put(vm(1));
  await shown(page, 1);
  await page.locator('.filter').fill('nothing like this');
  await page.getByText('No console matches').waitFor();
  await page.getByRole('button', { name: 'Clear the filter' }).click();
  await shown(page, 1);
});

test('it is usable at 360 px', { skip: missing }, async () => {
  const page = await begin(many(40), { width: 360, height: 640, scheme: 'dark' });
  await shown(page, 40);
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(await wide(), 360);
  await page.screenshot({ path: path.join(SHOTS, 'narrow-list.png') });
  await page.locator('.filter').fill('web');
  await page.locator('.row', { hasText: 'web-02' }).click();
  await page.locator('.pane').waitFor();
  await until('it is connected', () => page.locator('.pane-bar').isHidden());
  assert.equal(await wide(), 360);
  await page.screenshot({ path: path.join(SHOTS, 'narrow-console.png') });
  await page.getByRole('button', { name: 'Back to the list' }).click();
  await page.locator('.row').first().waitFor();
});
