// A gateway with made-up consoles, for the page's tests alone: as much of its interface as the page uses, with
// the policy that the page must do with.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { accept } from './websocket.mjs';

const DIST = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../dist');
const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', txt: 'text/plain' };
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/** What is asked, and whether at the place of share links. */
function asked(request) {
  const place = /^\/s(?=\/)/;
  return { url: new URL(request.url.replace(place, ''), 'http://mock'), isGuest: place.test(request.url) };
}

export function vm(i, over = {}) {
  const states = ['connected', 'connected', 'connected', 'moving', 'waiting'];
  return {
    server: i % 3 === 2 ? 'west' : 'east',
    id: `${i}.1`,
    name: `${['web', 'db', 'mail', 'cache', 'build'][i % 5]}-${String(Math.floor(i / 5) + 1).padStart(2, '0')}`,
    uuid: `564d${String(i).padStart(28, '0')}`,
    port: 50000 + (i % 10000),
    state: states[i % states.length],
    since_ms: i * 61_000,
    host: `192.0.2.${10 + (i % 40)}`,
    clients: i % 7 === 0 ? 2 : 0,
    lock: i % 14 === 0 ? { mode: 'write', by: 'ann@192.0.2.7' } : null,
    idle_ms: 1200,
    out: 5000,
    epoch: '9f3a',
    offset: 0,
    last_line: ['login:', 'Started Daily Cleanup of Temporary Directories.', 'systemd[1]: Reached target Multi-User'][i % 3],
    ...over,
  };
}

export class Gateway {
  consoles = new Map();
  servers = new Map();
  rights = 'operator';
  role = 'admin';
  /** Who is logged in, and what lets somebody in; empty: nobody has to. */
  user = 'ann';
  password = '';
  /** Of share links: the word that opens a console, and the shares that there are. */
  shareWord = '';
  shares = [];
  /** What each console has printed: bytes from offset 0 on. */
  printed = new Map();
  typed = [];
  /** The same as text, by console. */
  typedAt = new Map();
  asked = [];
  posts = [];
  consumed = 0;
  sockets = new Set();
  streams = new Set();
  upgrades = 0;
  refuseSockets = false;
  refuseChanges = false;
  refusal = '';
  cast = '';
  /** What guests tell; only servers with the feature `guests` are to be asked. */
  facts = { guest: {}, host: {} };
  factsAsked = 0;
  /** Until when facts wait, and what they are refused with. */
  factsHeld = Promise.resolve();
  factsRefused = 0;

  constructor(consoles) {
    for (const c of consoles) this.put(c);
    for (const name of new Set(consoles.map((c) => c.server))) this.servers.set(name, { name, state: 'up' });
    this.http = createServer((request, answer) => void this.#serve(request, answer));
    this.http.on('upgrade', (request, socket) => this.#upgrade(request, socket));
  }

  async listen() {
    await new Promise((resolve) => this.http.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.http.address().port}/`;
    return this.url;
  }

  close() {
    for (const peer of this.sockets) peer.socket.destroy();
    this.http.closeAllConnections();
    this.http.close();
  }

  put(c) {
    this.consoles.set(`${c.server}/${c.id}`, c);
    this.#tell('console', c);
  }

  gone(c) {
    this.consoles.delete(`${c.server}/${c.id}`);
    this.#tell('console-gone', { server: c.server, id: c.id });
  }

  server(name, state, message = '', features = []) {
    this.servers.set(name, { name, state, message, features });
    this.#tell('server', this.servers.get(name));
  }

  counts(counts) {
    this.#tell('count', { counts });
  }

  output(c) {
    const key = `${c.server}/${c.id}`;
    return this.printed.get(key) ?? Buffer.alloc(0);
  }

  /** The VM prints. */
  print(c, data) {
    const key = `${c.server}/${c.id}`;
    const bytes = Buffer.from(data);
    this.printed.set(key, Buffer.concat([this.output(c), bytes]));
    for (const peer of this.sockets) if (peer.key === key && !peer.replaced) peer.send(bytes);
  }

  tellSockets(value) {
    for (const peer of this.sockets) peer.json(value);
  }

  /** The network fails under every websocket. */
  cut() {
    for (const peer of [...this.sockets]) peer.socket.destroy();
  }

  cutChanges() {
    for (const stream of [...this.streams]) stream.destroy();
  }

  #tell(event, data) {
    for (const stream of this.streams) stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  async #serve(request, answer) {
    const { url, isGuest } = asked(request);
    const parts = url.pathname.split('/').slice(1).map(decodeURIComponent);
    const json = (status, value) => {
      answer.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' });
      answer.end(JSON.stringify(value));
    };
    const bearer = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1];
    const isShare = bearer !== undefined && bearer === this.shareWord;
    if (bearer !== undefined && !isShare) return json(401, { code: 'share-ended', detail: 'the link has expired' });
    if (url.pathname.startsWith('/api/') && isGuest && !isShare) return json(401, { code: 'not-known', detail: 'this takes a link' });
    if (url.pathname === '/api/v1/login') {
      let body = '';
      for await (const piece of request) body += piece;
      const given = JSON.parse(body);
      if (given.password !== this.password) return json(401, { code: 'login-needed', detail: 'the name or the password is wrong' });
      this.user = given.user;
      return json(200, {});
    }
    if (url.pathname.startsWith('/api/') && this.user === '' && !isShare) {
      return json(401, { code: 'login-needed', detail: 'log in' });
    }
    if (url.pathname === '/api/v1/me') {
      const [first] = this.consoles.values();
      const share = isShare ? { server: first.server, uuid: first.uuid, expires_ms: Date.now() + 3_600_000 } : null;
      const me = { user: this.user, role: this.role, rights: this.rights, csrf: 'token-1', session: this.password !== '' };
      return json(200, { ...me, shares: !isShare && this.role !== 'read', share });
    }
    if (url.pathname === '/api/v1/logout') {
      if (request.headers['x-csrf-token'] !== 'token-1') return json(403, { title: 'No token' });
      this.user = '';
      this.cutChanges();
      return json(200, {});
    }
    if (parts[2] === 'shares') {
      if (request.headers['x-csrf-token'] !== 'token-1') return json(403, { title: 'No token' });
      this.shares = this.shares.filter((one) => one.id !== parts[3]);
      return json(200, {});
    }
    if (url.pathname === '/api/v1/changes') {
      if (this.refuseChanges) return json(503, { title: 'Not now' });
      answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      const lines = ['event: snapshot\ndata: {}\n\n'];
      for (const server of this.servers.values()) lines.push(`event: server\ndata: ${JSON.stringify(server)}\n\n`);
      for (const c of this.consoles.values()) lines.push(`event: console\ndata: ${JSON.stringify(c)}\n\n`);
      answer.write(`${lines.join('')}event: synced\ndata: {}\n\n`);
      this.streams.add(answer);
      answer.on('close', () => this.streams.delete(answer));
      return undefined;
    }
    if (parts[0] === 'api' && parts[2] === 'consoles') {
      if (request.method === 'POST') {
        let body = '';
        for await (const piece of request) body += piece;
        if (request.headers['x-csrf-token'] !== 'token-1') return json(403, { title: 'No token' });
        this.posts.push({ path: parts.slice(3).join('/'), body: JSON.parse(body) });
        if (parts[4] === 'shares') {
          const one = { id: `s${this.shares.length}`, by: this.user, rights: this.posts.at(-1).body.rights, expires_ms: Date.now() + 60_000 };
          this.shares.push(one);
          return json(200, { ...one, url: 's/#/share/s0.abc' });
        }
        return json(200, { bumped: 1 });
      }
      if (parts[4] === 'shares') return json(200, { shares: this.shares });
      const one = [...this.consoles.values()].find((c) => parts[3] === c.uuid);
      if (parts[4] === undefined && one !== undefined) return json(200, one);
      if (parts[4] === undefined) return json(404, { title: 'Not found', detail: this.refusal });
      if (parts[4] === 'facts') {
        this.factsAsked += 1;
        await this.factsHeld;
        if (this.factsRefused > 0) return json(this.factsRefused, { code: 'not-connected', detail: 'it is away' });
        return json(200, { facts: this.facts });
      }
      if (parts[4] === 'clients') {
        const client = { id: '7.1', who: 'bob', from: '192.0.2.8', speaks: 'telnet', access: 'write', since_ms: 90_000 };
        return json(200, { clients: [client, { ...client, id: '8.1', who: 'ann', access: 'read', you: true }] });
      }
      if (parts[4] === 'log') {
        if (this.cast === '') return json(404, { title: 'Not found', detail: 'This server keeps no logs.' });
        answer.writeHead(200, { 'content-type': 'application/x-asciicast' });
        return answer.end(this.cast);
      }
    }
    const file = url.pathname === '/' ? 'index.html' : url.pathname.slice(1);
    try {
      const data = await readFile(path.join(DIST, file));
      answer.writeHead(200, {
        'content-type': TYPES[file.split('.').pop()] ?? 'application/octet-stream',
        'content-security-policy': POLICY,
        'x-content-type-options': 'nosniff',
      });
      return answer.end(data);
    } catch {
      return json(404, { title: 'Not found' });
    }
  }

  #upgrade(request, socket) {
    const { url } = asked(request);
    const id = decodeURIComponent(url.pathname.split('/')[4]);
    const server = url.searchParams.get('server');
    const c = this.consoles.get(`${server}/${id}`) ?? [...this.consoles.values()].find((one) => one.uuid === id);
    const key = `${server}/${c?.id}`;
    const word = /share\.([\w.-]+)/.exec(request.headers['sec-websocket-protocol'])?.[1];
    if (this.refuseSockets || c === undefined || (word !== undefined && word !== this.shareWord)) {
      socket.end('HTTP/1.1 503 Service Unavailable\r\n\r\n');
      return;
    }
    this.upgrades += 1;
    const peer = accept(request, socket, 'vspc.v1');
    peer.key = key;
    const lock = url.searchParams.get('lock');
    const access = (mode) => ({ access: mode === 'read-only' || this.rights === 'spectator' ? 'read' : 'write', lock: mode });
    const all = this.output(c);
    const offset = url.searchParams.has('offset') ? Number(url.searchParams.get('offset')) : 0;
    if (url.searchParams.has('epoch') && url.searchParams.get('epoch') !== c.epoch) {
      peer.json({ event: 'error', code: 'gone', message: 'not kept any more' });
      return;
    }
    this.sockets.add(peer);
    peer.onclose = () => this.sockets.delete(peer);
    peer.json({ event: 'attached', console: { ...c, offset: all.length }, ...access(lock), epoch: c.epoch, offset });
    // In pieces, as the gateway pulls them.
    for (let at = offset; at < all.length; at += 8192) peer.send(all.subarray(at, Math.min(at + 8192, all.length)));
    peer.onmessage = (data, text) => {
      if (!text) {
        this.typed.push(data);
        this.typedAt.set(key, `${this.typedAt.get(key) ?? ''}${data}`);
        return;
      }
      const value = JSON.parse(data);
      if (value.op === 'consumed') this.consumed += value.bytes;
      else this.asked.push(value);
      if (value.op === 'lock') peer.json({ event: 'access', ...access(value.mode) });
    };
  }
}
