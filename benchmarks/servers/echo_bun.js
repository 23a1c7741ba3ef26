// Echo server: Bun. With --commands, it answers the text "time" with the time.
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  args: Bun.argv.slice(2),
  allowPositionals: true,
  options: {
    compression: { type: 'boolean' },
    commands: { type: 'boolean' },
    ping: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});
const compression = Boolean(values.compression);

function echo(socket, message) {
  socket.send(message, compression);
}

function answer(socket, message) {
  socket.send(message === 'time' ? new Date().toISOString() : message);
}

Bun.serve({
  hostname: '127.0.0.1',
  port: Number(positionals[0]),
  tls: values.cert && { cert: Bun.file(values.cert), key: Bun.file(values.key) },
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response('', { status: 426 });
  },
  websocket: {
    perMessageDeflate: compression,
    idleTimeout: values.ping ? 2 * Number(values.ping) : 0,
    sendPings: Boolean(values.ping),
    maxPayloadLength: 2 << 20,
    backpressureLimit: 8 << 20,
    message: values.commands ? answer : echo,
  },
});
