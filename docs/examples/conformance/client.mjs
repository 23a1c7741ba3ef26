// Echo client for one conformance case: wsserver conformance -- node client.mjs {url}
import WebSocket from 'ws';

const socket = new WebSocket(process.argv[2]);
socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
// Many cases must end like this: the server sends what a client has to reject.
socket.on('error', (error) => console.log(error.message));
