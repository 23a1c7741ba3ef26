// Echo server: Deno.
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: { cert: { type: 'string' }, key: { type: 'string' } },
});
const tls = values.cert
  ? { cert: Deno.readTextFileSync(values.cert), key: Deno.readTextFileSync(values.key) }
  : {};

Deno.serve({ hostname: '127.0.0.1', port: Number(positionals[0]), onListen() {}, ...tls }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
  socket.binaryType = 'arraybuffer';
  socket.onmessage = (event) => socket.send(event.data);
  return response;
});
