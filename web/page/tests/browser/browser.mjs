// A Chromium and a page in it, for one test: no fault of script or policy may pass unseen.
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const PATHS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'];
const executablePath = PATHS.find((file) => file && existsSync(file));
export const missing = executablePath === undefined ? 'no chromium' : false;
export const SHOTS = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../../../target/page');

let browser;
export async function start() {
  browser ??= await chromium.launch({
    executablePath,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  await mkdir(SHOTS, { recursive: true });
  return browser;
}

export async function stop() {
  await browser?.close();
  browser = undefined;
}

/** A page at `url`; `faults` fills with what went wrong in it. */
export async function open(url, { width = 1280, height = 800, scheme = 'light', expect = [], before = async () => {}, ...more } = {}) {
  const context = await (await start()).newContext({
    viewport: { width, height },
    colorScheme: scheme,
    permissions: ['clipboard-read', 'clipboard-write'],
    ...more,
  });
  await before(context);
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const faults = [];
  page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() !== 'error' || expect.some((words) => text.includes(words))) return;
    faults.push(text);
  });
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(url);
  return { page, faults, close: () => context.close() };
}

/** The text on a terminal's screen, as a user sees it. */
export const screen = (page, pane = '.pane') =>
  page.locator(`${pane} .xterm-rows`).first().evaluate((rows) =>
    [...rows.children].map((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd()).join('\n').trimEnd());

export async function until(what, check, ms = 8000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
