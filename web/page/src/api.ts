// The gateway's HTTP interface (web/openapi.json), and the only file that knows its paths and fields. Paths are
// relative to the page: it may stand under a prefix.

import type { Console, Lock, Server } from './fleet';

/** An error as RFC 9457 has it, in words for a person. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string = '',
  ) {
    super(message);
  }
}

export interface Client {
  readonly id: string;
  readonly who: string;
  readonly from: string;
  readonly speaks: string;
  readonly access: string;
  readonly lock: string | null;
  readonly sinceMs: number;
  readonly you: boolean;
}

export interface Me {
  /** Empty where the gateway knows nobody. */
  readonly user: string;
  readonly role: string;
  readonly rights: string;
  /** One can log out. */
  readonly session: boolean;
  readonly shares: boolean;
  readonly share: { readonly server: string; readonly uuid: string; readonly expiresMs: number } | null;
}

/** A link that others have; `url` only where it has just been made. */
export interface Share {
  readonly id: string;
  readonly by: string;
  readonly rights: string;
  readonly expiresMs: number;
  readonly url: string;
}

/** A key and its value. */
export type Fact = readonly [string, string];

/** What a guest tells of itself, and what was set for it to read. */
export interface Facts {
  readonly guest: readonly Fact[];
  readonly host: readonly Fact[];
}

export interface Ref {
  readonly server: string;
  readonly id: string;
}

/** Proof, in a header, that a request was made by this page. */
let token = '';
/** The word of the share by whose link one has come. */
let word = '';
let nobody: (why: Problem) => void = () => undefined;

/** From now on all is asked by this share. */
export function useShare(given: string): void {
  word = given;
}

/** `act` is called when the gateway does not know who asks, or not any more. */
export function onNobody(act: (why: Problem) => void): void {
  nobody = act;
}

/** What a websocket offers: a browser lets it say nothing else. */
export const protocols = (): string[] => (word === '' ? ['vspc.v1'] : ['vspc.v1', `share.${word}`]);

export function consoleUrl(ref: Ref, rest = '', query: Record<string, string> = {}): string {
  const parameters = new URLSearchParams(query);
  if (ref.server !== '') parameters.set('server', ref.server);
  const tail = parameters.size > 0 ? `?${parameters}` : '';
  return `api/v1/consoles/${encodeURIComponent(ref.id)}${rest}${tail}`;
}

export async function me(): Promise<Me> {
  const value = (await call('GET', 'api/v1/me')) as Record<string, unknown>;
  token = text(value['csrf']);
  const share = value['share'] as Record<string, unknown> | null | undefined;
  return {
    user: text(value['user']),
    role: text(value['role']),
    rights: text(value['rights']),
    session: value['session'] === true,
    shares: value['shares'] === true,
    share: share
      ? { server: text(share['server']), uuid: text(share['uuid']), expiresMs: number(share['expires_ms']) ?? 0 }
      : null,
  };
}

export const logIn = (user: string, password: string): Promise<unknown> =>
  call('POST', 'api/v1/login', { user, password }, () => undefined);

export const logOut = (): Promise<unknown> => call('POST', 'api/v1/logout', {});

export async function show(ref: Ref): Promise<Console | null> {
  return consoleFrom(await call('GET', consoleUrl(ref)));
}

export async function clients(ref: Ref): Promise<Client[]> {
  const value = (await call('GET', consoleUrl(ref, '/clients'))) as { clients?: unknown[] };
  return (value.clients ?? []).map((raw) => {
    const c = raw as Record<string, unknown>;
    return {
      id: text(c['id']),
      who: text(c['who']),
      from: text(c['from']),
      speaks: text(c['speaks']),
      access: text(c['access']),
      lock: typeof c['lock'] === 'string' ? c['lock'] : null,
      sinceMs: number(c['since_ms']) ?? 0,
      you: c['you'] === true,
    };
  });
}

export const facts = async (ref: Ref): Promise<Facts> => factsFrom(await call('GET', consoleUrl(ref, '/facts')));

/** Why a console cannot be had, as the gateway tells it; empty where it would be, or nobody answers. */
export async function whyNot(ref: Ref): Promise<string> {
  try {
    await call('GET', consoleUrl(ref));
    return '';
  } catch (error) {
    return error instanceof Problem && error.status !== 0 ? error.message : '';
  }
}

export const bump = (ref: Ref, client: string | null, reason: string): Promise<unknown> =>
  call('POST', consoleUrl(ref, '/bump'), client === null ? { reason } : { client, reason });

export const kick = (ref: Ref, client: string, reason: string): Promise<unknown> =>
  call('POST', consoleUrl(ref, '/kick'), { client, reason });

export async function share(ref: Ref, rights: string, minutes: number): Promise<Share> {
  return shareFrom(await call('POST', consoleUrl(ref, '/shares'), { rights, expires_in_s: minutes * 60 }));
}

export async function shares(ref: Ref): Promise<Share[]> {
  const value = (await call('GET', consoleUrl(ref, '/shares'))) as { shares?: unknown[] };
  return (value.shares ?? []).map(shareFrom);
}

export const revoke = (id: string): Promise<unknown> =>
  call('POST', `api/v1/shares/${encodeURIComponent(id)}/revoke`, {});

export function factsFrom(raw: unknown): Facts {
  const both = fields(fields(raw)['facts']);
  const of = (what: unknown): Fact[] =>
    Object.entries(fields(what))
      .filter((one): one is [string, string] => typeof one[1] === 'string')
      .sort(([a], [b]) => (a < b ? -1 : 1));
  return { guest: of(both['guest']), host: of(both['host']) };
}

const fields = (raw: unknown): Record<string, unknown> =>
  typeof raw === 'object' && raw !== null && !Array.isArray(raw) ? (raw as Record<string, unknown>) : {};

function shareFrom(raw: unknown): Share {
  const s = raw as Record<string, unknown>;
  return {
    id: text(s['id']),
    by: text(s['by']),
    rights: text(s['rights']),
    expiresMs: number(s['expires_ms']) ?? 0,
    url: text(s['url']),
  };
}

export async function cast(ref: Ref, since: string, until: string, stop: AbortSignal): Promise<string> {
  const query: Record<string, string> = { format: 'cast' };
  if (since !== '') query['since'] = since;
  if (until !== '') query['until'] = until;
  const answer = await fetch(consoleUrl(ref, '/log', query), { signal: stop, credentials: 'same-origin' });
  if (!answer.ok) throw await problem(answer, nobody);
  return answer.text();
}

async function call(method: string, url: string, body?: unknown, unknown = nobody): Promise<unknown> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (method !== 'GET' && token !== '') headers['x-csrf-token'] = token;
  if (word !== '') headers['authorization'] = `Bearer ${word}`;
  let answer: Response;
  try {
    answer = await fetch(url, {
      method,
      headers,
      credentials: 'same-origin',
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new Problem('The gateway does not answer.', 0);
  }
  if (!answer.ok) throw await problem(answer, unknown);
  if (answer.status === 204) return {};
  return answer.json().catch(() => ({}));
}

async function problem(answer: Response, unknown: (why: Problem) => void): Promise<Problem> {
  const value = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
  const words = text(value['detail']) || text(value['title']) || `The gateway answered ${answer.status}.`;
  const made = new Problem(words, answer.status, text(value['code']));
  if (answer.status === 401) unknown(made);
  return made;
}

export function consoleFrom(raw: unknown): Console | null {
  if (typeof raw !== 'object' || raw === null) return null;
  const c = raw as Record<string, unknown>;
  const id = text(c['id']) || text(c['name']);
  if (id === '') return null;
  return {
    server: text(c['server']),
    id,
    name: text(c['name']),
    uuid: text(c['uuid']),
    port: number(c['port']),
    state: text(c['state']) || 'waiting',
    sinceMs: number(c['since_ms']) ?? 0,
    host: typeof c['host'] === 'string' ? c['host'] : null,
    clients: number(c['clients']) ?? 0,
    lock: lockFrom(c['lock']),
    idleMs: number(c['idle_ms']),
    out: number(c['out']) ?? 0,
    lastLine: text(c['last_line']),
  };
}

export function serverFrom(raw: unknown): Server | null {
  if (typeof raw !== 'object' || raw === null) return null;
  const s = raw as Record<string, unknown>;
  if (typeof s['name'] !== 'string') return null;
  const words = text(s['message']) || (s['state'] === 'connecting' ? 'It is being connected to.' : '');
  const guests = Array.isArray(s['features']) && s['features'].includes('guests');
  return { name: s['name'], up: s['state'] === 'up', message: words, guests };
}

export function lockFrom(raw: unknown): Lock | null {
  if (typeof raw !== 'object' || raw === null) return null;
  const l = raw as Record<string, unknown>;
  return { mode: text(l['mode']), by: text(l['by']) };
}

export const text = (value: unknown): string => (typeof value === 'string' ? value : '');
export const number = (value: unknown): number | null =>
  typeof value === 'number' && Number.isFinite(value) ? value : null;
