// Node.js with ws, as its documentation shows a broadcast; NODE_PATH says where ws is.
const { WebSocketServer, WebSocket } = require('ws');

const sockets = new WebSocketServer({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 1024 });
const subscribers = new Set();
sockets.on('connection', (socket, request) => {
  socket.on('error', () => {});
  if (request.url !== '/publish') {
    subscribers.add(socket);
    socket.on('close', () => subscribers.delete(socket));
    return;
  }
  socket.on('message', (message, isBinary) => {
    subscribers.forEach((one) => {
      if (one.readyState === WebSocket.OPEN) one.send(message, { binary: isBinary });
    });
  });
});
