// The official JavaScript SDK in a process: orders are read from standard input, answers and events are written to
// standard output.
"use strict";
const WebSocket = require("ws");
const { EventSource } = require("eventsource");
const { drive } = require("./sdk.js");

const [url, settings] = [process.argv[2], JSON.parse(process.argv[3])];
// `transports` are the names of transports to try instead of only WebSocket.
const { transports, ...options } = settings;
const { Centrifuge } = require(options.protobuf ? "centrifuge/build/protobuf" : "centrifuge");

const http = url.replace(/^ws/, "http");
const endpoints = { websocket: `${url}/connection/websocket`, "closed websocket": "ws://127.0.0.1:1/" };
const endpoint = transports === undefined ? endpoints.websocket : transports.map((name) => ({
    transport: name.replace("closed ", ""), endpoint: endpoints[name] ?? `${http}/connection/${name}`,
}));
const implementations = { websocket: WebSocket, eventsource: EventSource, emulationEndpoint: `${http}/emulation` };
const report = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const execute = drive(Centrifuge, endpoint, { ...implementations, ...options }, report);

require("readline").createInterface({ input: process.stdin })
    .on("line", (line) => execute(JSON.parse(line)))
    .on("close", () => process.exit(0));
report({ event: "ready" });
