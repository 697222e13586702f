// The server's half of RFC 6455, as much as a test needs: whole messages, close, and a socket that can be held.
import { createHash } from 'node:crypto';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

export function accept(request, socket, protocol) {
  const key = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${key}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  return new Peer(socket);
}

class Peer {
  onmessage = () => {};
  onclose = () => {};
  #held = Buffer.alloc(0);
  #parts = [];
  #kind = 0;

  constructor(socket) {
    this.socket = socket;
    socket.on('data', (data) => this.#read(data));
    socket.on('error', () => {});
    socket.on('close', () => this.onclose());
  }

  send(data) {
    const text = typeof data === 'string';
    this.#frame(text ? 1 : 2, Buffer.from(data));
  }

  json(value) {
    this.send(JSON.stringify(value));
  }

  close(code = 1000, reason = '') {
    const body = Buffer.alloc(2 + Buffer.byteLength(reason));
    body.writeUInt16BE(code);
    body.write(reason, 2);
    this.#frame(8, body);
    this.socket.end();
  }

  #frame(op, body) {
    let head;
    if (body.length < 126) head = Buffer.from([0x80 | op, body.length]);
    else if (body.length < 65536) {
      head = Buffer.from([0x80 | op, 126, 0, 0]);
      head.writeUInt16BE(body.length, 2);
    } else {
      head = Buffer.alloc(10);
      head[0] = 0x80 | op;
      head[1] = 127;
      head.writeBigUInt64BE(BigInt(body.length), 2);
    }
    if (!this.socket.destroyed) this.socket.write(Buffer.concat([head, body]));
  }

  #read(data) {
    this.#held = Buffer.concat([this.#held, data]);
    for (;;) {
      const b = this.#held;
      if (b.length < 2) return;
      let length = b[1] & 127;
      let at = 2;
      if (length === 126) {
        if (b.length < 4) return;
        length = b.readUInt16BE(2);
        at = 4;
      } else if (length === 127) {
        if (b.length < 10) return;
        length = Number(b.readBigUInt64BE(2));
        at = 10;
      }
      if (b.length < at + 4 + length) return;
      const mask = b.subarray(at, at + 4);
      const body = Buffer.from(b.subarray(at + 4, at + 4 + length));
      for (let i = 0; i < body.length; i += 1) body[i] ^= mask[i & 3];
      this.#held = b.subarray(at + 4 + length);
      const op = b[0] & 15;
      if (op === 8) {
        this.socket.end();
        return;
      }
      if (op > 2) continue;
      if (op !== 0) this.#kind = op;
      this.#parts.push(body);
      if ((b[0] & 0x80) === 0) continue;
      const whole = Buffer.concat(this.#parts);
      this.#parts = [];
      this.onmessage(this.#kind === 1 ? whole.toString() : whole, this.#kind === 1);
    }
  }
}
