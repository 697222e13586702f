// What is typed into the filter, and which consoles it lets through. Every word has to be found, anywhere in
// what is shown of a console; `state:moving`, `server:`, `host:`, `port:`, `name:`, `uuid:` and `lock:` look
// at one thing alone, and a leading `-` turns a word round.

export interface Filterable {
  readonly name: string;
  readonly server: string;
  readonly uuid: string;
  readonly host: string | null;
  readonly port: number | null;
  readonly state: string;
  readonly lock: { mode: string; by: string } | null;
  readonly lastLine: string;
}

interface Word {
  readonly field: Field | null;
  readonly text: string;
  readonly not: boolean;
}

const FIELDS = ['name', 'server', 'uuid', 'host', 'port', 'state', 'lock', 'line'] as const;
type Field = (typeof FIELDS)[number];

export function parseFilter(typed: string): readonly Word[] {
  const words: Word[] = [];
  for (const raw of typed.toLowerCase().split(/\s+/)) {
    const not = raw.length > 1 && raw.startsWith('-');
    const word = not ? raw.slice(1) : raw;
    if (word === '') continue;
    const colon = word.indexOf(':');
    const field = FIELDS.find((f) => f === word.slice(0, colon));
    // `state:` while its value is still to be typed asks for nothing yet.
    if (field !== undefined && colon > 0) {
      const text = word.slice(colon + 1);
      if (text !== '') words.push({ field, text, not });
    } else {
      words.push({ field: null, text: word, not });
    }
  }
  return words;
}

/** All that a word without a field is looked for in, made once per change of a console. */
export function haystack(c: Filterable): string {
  const parts = [c.name, c.server, c.host ?? '', c.port === null ? '' : String(c.port), c.state, c.uuid];
  return parts.join('\n').toLowerCase();
}

export function matches(words: readonly Word[], c: Filterable, hay: string): boolean {
  for (const word of words) {
    const found = word.field === null ? hay.includes(word.text) : value(c, word.field).includes(word.text);
    if (found === word.not) return false;
  }
  return true;
}

function value(c: Filterable, field: Field): string {
  switch (field) {
    case 'lock':
      return c.lock === null ? 'none' : `${c.lock.mode} ${c.lock.by}`.toLowerCase();
    case 'port':
      return c.port === null ? '' : String(c.port);
    case 'line':
      return c.lastLine.toLowerCase();
    default:
      return (c[field] ?? '').toLowerCase();
  }
}
