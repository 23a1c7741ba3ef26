// The official JavaScript SDK in a process: orders come on standard input, answers and events go to standard output.
"use strict";
const { Centrifuge } = require("centrifuge");
const WebSocket = require("ws");
const { drive } = require("./sdk.js");

const [url, options] = [process.argv[2], JSON.parse(process.argv[3])];
const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const obey = drive(Centrifuge, url, { websocket: WebSocket, ...options }, tell);

require("readline").createInterface({ input: process.stdin })
    .on("line", (line) => obey(JSON.parse(line)))
    .on("close", () => process.exit(0));
tell({ event: "ready" });
