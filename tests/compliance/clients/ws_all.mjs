// The client of the package ws, which runs all cases: node ws_all.mjs NODE_MODULES SERVER [autobahn]

import { createRequire } from 'node:module';

const [modules, server, form] = process.argv.slice(2);
const WebSocket = createRequire(`${modules}/`)('ws');

/** Connects, and sends back every message until the server closes; returns the last message. */
function run(url, isEcho) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    let last = '';
    socket.on('message', (data, isBinary) => {
      last = data.toString();
      if (isEcho) socket.send(data, { binary: isBinary });
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(last));
  });
}

const count = Number(await run(`${server}/getCaseCount`, false));
for (let number = 1; number <= count; number += 1) {
  const path = form === 'autobahn' ? `/runCase?case=${number}&agent=ws` : `/case/${number}?agent=ws`;
  await run(server + path, true);
}
await run(`${server}/updateReports?agent=ws`, false);
