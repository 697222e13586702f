// What the user chose, kept by the browser. Where it keeps nothing, choices last as long as the page.

export interface Prefs {
  theme: 'system' | 'light' | 'dark';
  fontSize: number;
  screenReader: boolean;
}

const KEY = 'vspc-web';
const DEFAULTS: Prefs = { theme: 'system', fontSize: 13, screenReader: false };

export const prefs: Prefs = read();
const listeners = new Set<() => void>();

export function setPref<K extends keyof Prefs>(name: K, value: Prefs[K]): void {
  prefs[name] = value;
  try {
    localStorage.setItem(KEY, JSON.stringify(prefs));
  } catch {
    // Storage is full or not allowed.
  }
  listeners.forEach((tell) => tell());
}

export function onPrefs(tell: () => void): () => void {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

export function dark(): boolean {
  if (prefs.theme !== 'system') return prefs.theme === 'dark';
  return matchMedia('(prefers-color-scheme: dark)').matches;
}

export function applyTheme(): void {
  document.documentElement.dataset['theme'] = dark() ? 'dark' : 'light';
}

function read(): Prefs {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Prefs>;
    const size = Number(kept.fontSize ?? DEFAULTS.fontSize);
    return {
      theme: kept.theme === 'light' || kept.theme === 'dark' ? kept.theme : 'system',
      fontSize: size >= 6 && size <= 32 ? size : DEFAULTS.fontSize,
      screenReader: kept.screenReader === true,
    };
  } catch {
    return { ...DEFAULTS };
  }
}
