// The official JavaScript SDK in a process: orders are read from standard input, answers and events are written to
// standard output.
"use strict";
const { Centrifuge } = require("centrifuge");
const WebSocket = require("ws");
const { drive } = require("./sdk.js");

const [url, options] = [process.argv[2], JSON.parse(process.argv[3])];
const report = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const execute = drive(Centrifuge, url, { websocket: WebSocket, ...options }, report);

require("readline").createInterface({ input: process.stdin })
    .on("line", (line) => execute(JSON.parse(line)))
    .on("close", () => process.exit(0));
report({ event: "ready" });
