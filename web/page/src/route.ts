// What the address after `#` says: which consoles are open, or the wall, or a replay. Names are percent-encoded,
// so that a name with any character in it is a name.

export interface Name {
  readonly server: string;
  readonly name: string;
}

export type Route =
  | { readonly at: 'list'; readonly open: readonly Name[] }
  | { readonly at: 'wall' }
  | { readonly at: 'replay'; readonly of: Name };

export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#?\/?/, '');
  const [first = '', rest = ''] = path.split(/\/(.*)/s);
  if (first === 'wall') return { at: 'wall' };
  const names = rest.split('+').map(parseName).filter((name) => name !== null);
  if (first === 'replay' && names[0] !== undefined) return { at: 'replay', of: names[0] };
  return { at: 'list', open: first === 'open' ? names : [] };
}

/** The word of the share by whose link one has come; empty: by none. */
export const shareWord = (hash: string): string => /^#\/share\/([\w.-]+)$/.exec(hash)?.[1] ?? '';

export function writeRoute(route: Route): string {
  if (route.at === 'wall') return '#/wall';
  if (route.at === 'replay') return `#/replay/${writeName(route.of)}`;
  return route.open.length === 0 ? '#/' : `#/open/${route.open.map(writeName).join('+')}`;
}

const writeName = (n: Name): string => `${encodeURIComponent(n.server)}/${encodeURIComponent(n.name)}`;

function parseName(text: string): Name | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  try {
    const name = decodeURIComponent(text.slice(slash + 1));
    return name === '' ? null : { server: decodeURIComponent(text.slice(0, slash)), name };
  } catch {
    return null;
  }
}
