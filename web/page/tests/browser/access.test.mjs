// What axe-core finds: nothing serious, in each view and both themes.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { missing, open, screen, stop, until } from './browser.mjs';
import { Gateway, vm } from '../mock/gateway.mjs';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
after(stop);

async function check(page, what) {
  const { violations } = await page.evaluate(() =>
    window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  const serious = violations
    .filter((one) => one.impact === 'serious' || one.impact === 'critical')
    .map((one) => `${what}: ${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);
  assert.deepEqual(serious, []);
}

for (const scheme of ['light', 'dark']) {
  test(`nothing serious stands in the way of a screen reader (${scheme})`, { skip: missing }, async () => {
    const consoles = Array.from({ length: 30 }, (_, i) => vm(i));
    const one = vm(1, { lock: { mode: 'write', by: 'ann' }, server: 'east', state: 'connected' });
    consoles[1] = one;
    const gateway = new Gateway(consoles);
    gateway.print(one, '\x1b[31mred\x1b[0m \x1b[32mgreen\x1b[0m \x1b[1;30mgrey\x1b[0m\r\nlogin: ');
    gateway.server('east', 'up', '', ['guests']);
    gateway.facts = { guest: { 'os.name': 'Debian' }, host: { owner: 'ann' } };
    const { page, close, faults } = await open(await gateway.listen(), { scheme, bypassCSP: true, expect: ['401', 'net::ERR_INCOMPLETE'] });
    await page.addScriptTag({ content: await readFile(AXE, 'utf8') });
    await page.locator('html[data-shown="30"]').waitFor({ state: 'attached' });
    await check(page, 'list');
    gateway.server('west', 'down', 'refused');
    await page.locator('.row.stale').first().waitFor();
    await check(page, 'a server is down');
    await page.locator('.filter').fill('nothing');
    await page.getByText('No console matches').waitFor();
    await check(page, 'nothing found');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await page.getByRole('dialog').waitFor();
    await page.getByLabel('Screen reader mode in terminals').check();
    await check(page, 'keys');
    await page.keyboard.press('Escape');
    await page.locator('.filter').fill(one.name);
    await page.locator('.row').first().click();
    await until('it is connected', async () => (await screen(page)).includes('login:'));
    await check(page, 'console');
    gateway.tellSockets({ event: 'state', state: 'moving', host: '192.0.2.9' });
    await page.getByText('The VM is moving').waitFor();
    await check(page, 'moving');
    await page.locator('.pane').getByRole('button', { name: 'More' }).click();
    await check(page, 'menu');
    await page.keyboard.press('Escape');
    await page.locator('.pane').getByRole('button', { name: /here/ }).click();
    await page.getByRole('listitem').first().waitFor();
    await check(page, 'who');
    await page.keyboard.press('Escape');
    await page.locator('.pane').getByRole('button', { name: 'Facts' }).click();
    await page.getByText('Debian').waitFor();
    await check(page, 'facts');
    await page.keyboard.press('Escape');
    await page.locator('.filter').fill('');
    await page.goto(`${gateway.url}#/wall`);
    await page.locator('.tile').first().waitFor();
    await check(page, 'wall');
    await page.goto(`${gateway.url}#/open/east/${one.name}`);
    await page.locator('.chip', { hasText: /Writing|Watching/ }).first().waitFor();
    await page.locator('.pane').getByRole('button', { name: 'More' }).click();
    await page.getByRole('menuitem', { name: 'Share link' }).click();
    await page.getByRole('button', { name: 'Make link' }).click();
    await page.getByRole('button', { name: 'Revoke' }).waitFor();
    await check(page, 'share');
    await page.keyboard.press('Escape');
    gateway.user = '';
    gateway.cutChanges();
    await page.getByLabel('Password').waitFor();
    await check(page, 'login');
    gateway.shareWord = 's0.abc';
    await page.goto(`${gateway.url}s/#/share/s0.abc`);
    await page.getByText('Shared until').waitFor();
    await page.addScriptTag({ content: await readFile(AXE, 'utf8') });
    await check(page, 'shared');
    await close();
    gateway.close();
    assert.deepEqual(faults, []);
  });
}
