// Node.js with ws; NODE_PATH says where ws is.
const { parseArgs } = require('node:util');
const { readFileSync } = require('node:fs');
const { WebSocketServer } = require('ws');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    compression: { type: 'boolean' },
    ping: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});
const server = values.cert
  ? require('node:https').createServer({ cert: readFileSync(values.cert), key: readFileSync(values.key) })
  : require('node:http').createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: Boolean(values.compression), maxPayload: 2 << 20 });
sockets.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }));
});
if (values.ping) setInterval(() => sockets.clients.forEach((socket) => socket.ping()), 1000 * values.ping);
server.listen(Number(positionals[0]), '127.0.0.1');
