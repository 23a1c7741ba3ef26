// Fan-out server: Bun, with its topics.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(Bun.argv[2]),
  fetch(request, server) {
    const publishes = new URL(request.url).pathname === '/publish';
    if (!server.upgrade(request, { data: { publishes } })) return new Response('', { status: 426 });
  },
  websocket: {
    idleTimeout: 0,
    backpressureLimit: 8 << 20,
    open(socket) {
      if (!socket.data.publishes) socket.subscribe('foo');
    },
    message(socket, message) {
      server.publish('foo', message);
    },
  },
});
