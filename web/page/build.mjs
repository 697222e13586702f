// Builds the page into dist/: one script, one style sheet, their names made of what is in them, so that a
// browser may keep them for ever; index.html, which names them; and the licences of what is bundled.
import { build } from 'esbuild';
import { mkdir, readFile, rm, writeFile, copyFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const at = (...parts) => path.join(here, ...parts);

await rm(at('dist'), { recursive: true, force: true });
await mkdir(at('dist'), { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: { app: 'src/start.ts' },
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022', 'chrome105', 'firefox115', 'safari16.4'],
  outdir: 'dist/assets',
  entryNames: '[name]-[hash]',
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
});

const outputs = Object.keys(result.metafile.outputs).map((file) => file.replace(/^dist\//, ''));
const script = outputs.find((file) => file.endsWith('.js'));
const style = outputs.find((file) => file.endsWith('.css'));
const html = await readFile(at('src/index.html'), 'utf8');
await writeFile(at('dist/index.html'), html.replace('app.js', script).replace('app.css', style));
for (const file of await readdir(at('static'))) await copyFile(at('static', file), at('dist', file));

// What is bundled asks that its notice comes along.
const bundled = new Set(
  Object.keys(result.metafile.inputs)
    .map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1])
    .filter(Boolean),
);
const notices = [];
for (const name of [...bundled].sort()) {
  const { version } = JSON.parse(await readFile(at('node_modules', name, 'package.json'), 'utf8'));
  const licence = await readFile(at('node_modules', name, 'LICENSE'), 'utf8');
  notices.push(`${name} ${version}\n\n${licence.trim()}\n`);
}
await writeFile(at('dist/licences.txt'), notices.join('\n\n'));
