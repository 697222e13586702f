// Real programs beside the browser: concentrators with a VM each that prints and echoes, and a gateway to them.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { missing } from './browser.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const DIST = path.join(HERE, '../../dist');
const BIN = process.env.VSPC_BIN ?? path.join(HERE, '../../../../target/debug');
const absent = ['vspc-mio', 'vspc-web', 'vspc-conformance', 'vspc-agent'].find((name) => !existsSync(path.join(BIN, name)));
export const withoutServers = missing || (absent !== undefined && `no ${absent} in ${BIN} (cargo build, or VSPC_BIN)`);
const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };

export class Servers {
  #all = [];
  #folders = [];

  /** Starts a program; resolves to it and the ports that its first lines name, in the order of `patterns`. */
  async #start(program, args, patterns = []) {
    const child = spawn(path.join(BIN, program), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#all.push(child);
    let said = '';
    const ports = await new Promise((resolve, reject) => {
      const look = (data) => {
        said += data;
        const found = patterns.map((pattern) => pattern.exec(said)?.[1]);
        if (found.every((port) => port !== undefined)) resolve(found.map(Number));
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      child.on('exit', (code) => reject(new Error(`${program} ended (${code}): ${said}`)));
      look('');
    });
    return { child, ports };
  }

  /** `at`: one that has died, whose ports it takes; `more`: options. */
  async concentrator(at = { vms: 0, admin: 0 }, more = []) {
    const log = await mkdtemp(path.join(tmpdir(), 'vspc-page-'));
    const index = await mkdtemp(path.join(tmpdir(), 'vspc-page-'));
    this.#folders.push(log, index);
    const wanted = ['--proxy-port', `${at.vms}`, '--admin-port', `${at.admin}`, '--port-range-start', '0'];
    const { child, ports } = await this.#start(
      'vspc-mio',
      [...wanted, '--proxy-iface', '127.0.0.1', '--admin-rights', 'loopback=operator+delegate', '--log-dir', log, '--log-index', index, ...more],
      [/listening on \S+:(\d+)/, /admin port open on \S+:(\d+)/],
    );
    return { child, vms: ports[0], admin: ports[1] };
  }

  async vm(name, concentrator, more = []) {
    const target = `127.0.0.1:${concentrator.vms}`;
    return (await this.#start('vspc-conformance', ['fake-vm', '--quiet', '--name', name, '--target', target, ...more]))
      .child;
  }

  /** `servers`: names and concentrators. */
  async gateway(servers, port = 0, more = []) {
    const args = Object.entries(servers).flatMap(([name, one]) => ['--server', `${name}=127.0.0.1:${one.admin}`]);
    const { child, ports } = await this.#start('vspc-web', ['--listen', `127.0.0.1:${port}`, ...args, ...more], [
      /listening on \S+:(\d+)/,
    ]);
    return { child, port: ports[0], url: `http://127.0.0.1:${ports[0]}/` };
  }

  /** Options for a gateway to which `people`, names with roles, log in with their names, and may share. */
  async people(people) {
    const folder = await mkdtemp(path.join(tmpdir(), 'vspc-page-'));
    this.#folders.push(folder);
    const lines = Object.entries(people).map(([name, role]) => {
      const made = spawnSync(path.join(BIN, 'vspc-web'), ['passwd', name, '--role', role], { input: `${name}\n` });
      return made.stdout.toString();
    });
    await writeFile(path.join(folder, 'users'), lines.join(''), { mode: 0o600 });
    return ['--users', path.join(folder, 'users'), '--state-dir', path.join(folder, 'state')];
  }

  /** An agent in a guest, with these lines in its file; what stands for where its line is. */
  async agent(more) {
    const folder = await mkdtemp(path.join(tmpdir(), 'vspc-page-'));
    this.#folders.push(folder);
    const line = path.join(folder, 'line');
    const file = path.join(folder, 'agent.toml');
    await writeFile(file, `line = "unix:${line}"\n${more}`, { mode: 0o600 });
    return { line, start: () => this.#start('vspc-agent', ['--config', file]) };
  }

  async stop(child) {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  async close() {
    await Promise.all(this.#all.map((child) => this.stop(child)));
    await Promise.all(this.#folders.map((folder) => rm(folder, { recursive: true, force: true })));
  }
}

/** A gateway that was built without the page is lent the one in dist/, under the gateway's own policy. */
export async function lendPage(context, gateway) {
  const answer = await fetch(gateway.url);
  if (answer.ok) return;
  // To the browser, a page that was lent is from nowhere, and has to be allowed to speak to this machine.
  await context.grantPermissions(['local-network-access', 'clipboard-read', 'clipboard-write']);
  const policy = answer.headers.get('content-security-policy');
  await context.route(
    (url) => url.origin === new URL(gateway.url).origin && !/^(\/s)?\/api\//.test(url.pathname),
    async (route) => {
      const name = new URL(route.request().url()).pathname.replace(/^\/(s\/)?/, '') || 'index.html';
      const headers = { 'content-type': TYPES[name.split('.').pop()] ?? 'text/plain' };
      if (policy !== null) headers['content-security-policy'] = policy;
      await route.fulfill({ headers, body: await readFile(path.join(DIST, name)) });
    },
  );
}
