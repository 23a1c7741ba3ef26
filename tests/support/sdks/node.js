// The official JavaScript SDK in a process: orders are read from standard input, answers and events are written to
// standard output.
"use strict";
const { Centrifuge } = require("centrifuge");
const WebSocket = require("ws");
const { drive } = require("./sdk.js");

const [url, options] = [process.argv[2], JSON.parse(process.argv[3])];
const report = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const { EventSource } = require("eventsource");
// `transports` are the names of transports to try instead of only WebSocket.
const { transports, ...rest } = options;
const http = url.replace(/^ws/, "http");
const endpoints = { websocket: `${url}/connection/websocket`, "closed websocket": "ws://127.0.0.1:1/" };
const endpoint = transports === undefined ? endpoints.websocket : transports.map((name) => ({
    transport: name.replace("closed ", ""), endpoint: endpoints[name] ?? `${http}/connection/${name}`,
}));
const implementations = { websocket: WebSocket, eventsource: EventSource, emulationEndpoint: `${http}/emulation` };
const execute = drive(Centrifuge, endpoint, { ...implementations, ...rest }, report);

require("readline").createInterface({ input: process.stdin })
    .on("line", (line) => execute(JSON.parse(line)))
    .on("close", () => process.exit(0));
report({ event: "ready" });
