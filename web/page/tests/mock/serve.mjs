// The mock as a program: `node tests/mock/serve.mjs [how many consoles]`.
import { Gateway, vm } from './gateway.mjs';

const consoles = Array.from({ length: Number(process.argv[2] ?? 200) }, (_, i) => vm(i));
const gateway = new Gateway(consoles);
console.log(await gateway.listen());
for (const c of consoles) gateway.print(c, `Booting ${c.name}\r\n${c.name} login: `);
setInterval(() => {
  const counts = [];
  for (const c of consoles) {
    if (c.state !== 'connected' || Math.random() < 0.7) continue;
    const line = `${new Date().toISOString()} ${c.name}: something happened`;
    gateway.print(c, `\r\n${line}`);
    c.out += line.length;
    counts.push({ server: c.server, id: c.id, out: c.out, idle_ms: 0, last_line: line });
  }
  gateway.counts(counts);
}, 1000);
