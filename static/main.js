/**
 * The page: connects the controls, the connection, the channel and the logs.
 *
 * Rule 1: decides nothing that connection.js, channel.js, log.js or explain.js could decide.
 */

import { Announcer } from './announcer.js';
import { count, parseHex } from './bytes.js';
import { Channel } from './channel.js';
import { Connection } from './connection.js';
import { explainEnding } from './explain.js';
import { Log } from './log.js';
import { loadServer, UNKNOWN_SERVER } from './server.js';

/** @typedef {import('./connection.js').State} State */

const EXAMPLES = ['/', '/echo', '/ticker?every=1s&count=5'];
const BUFFER_POLL_MS = 100;
const LOG_LINES = 1000;
const CHANNEL_LINES = 200;

/**
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

/** @type {HTMLInputElement} */ const url = byId('url');
/** @type {HTMLInputElement} */ const protocols = byId('protocols');
/** @type {HTMLButtonElement} */ const connect = byId('connect');
/** @type {HTMLButtonElement} */ const disconnect = byId('disconnect');
/** @type {HTMLTextAreaElement} */ const message = byId('message');
/** @type {HTMLSelectElement} */ const type = byId('type');
/** @type {HTMLButtonElement} */ const send = byId('send');
const commands = byId('commands');

const base = new URL('./', location.href);
base.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:';

let server = UNKNOWN_SERVER;
let lastMessage = '';
let focusIsBorrowed = false;

const announcer = new Announcer(byId('announcer'));
const log = new Log(byId('log-panel'), announcer, LOG_LINES);
const connection = new Connection({
  onState: showState,
  onOpened: (opened, milliseconds) => log.event({
    title: `Connected to ${opened.url} in ${Math.round(milliseconds)} ms`,
    details: `Subprotocol: ${opened.protocol || 'none'}, extensions: ${opened.extensions || 'none'}`,
    mood: 'good',
  }),
  onMessage: (data) => log.received(data),
  onClosed: (ending) => log.event(explainEnding(ending, server, location.origin)),
});

new Channel({
  form: byId('channel-form'),
  name: byId('channel'),
  rewind: byId('rewind'),
  toggle: byId('subscribe'),
  publishForm: byId('publish-form'),
  data: byId('data'),
  key: byId('api-key'),
  log: new Log(byId('channel-panel'), announcer, CHANNEL_LINES),
  base,
  server: () => server,
});

/** @param {State} state */
function showState(state) {
  byId('state').dataset.state = state;
  byId('state-word').textContent = state;
  connect.disabled = state !== 'CLOSED';
  // Stays enabled while CLOSING: a second close is harmless, and the focus stays here.
  disconnect.disabled = state === 'CLOSED';
  send.disabled = state !== 'OPEN';
  for (const button of commands.querySelectorAll('button')) button.disabled = state !== 'OPEN';
  keepFocus(state);
  showBuffered();
}

/**
 * Move the keyboard focus from a control that was disabled to the next useful one.
 * Otherwise it would drop to the top of the page.
 *
 * @param {State} state
 */
function keepFocus(state) {
  const focused = document.activeElement;
  const wasBorrowed = focusIsBorrowed && focused === disconnect;
  focusIsBorrowed = false;
  if (state === 'OPEN' && wasBorrowed) {
    message.focus();
  } else if (focused?.matches(':disabled')) {
    (state === 'CLOSED' ? connect : disconnect).focus();
    focusIsBorrowed = state === 'CONNECTING';
  }
}

function showBuffered() {
  const { bufferedAmount, state } = connection;
  byId('buffered').textContent = count(bufferedAmount, 'byte');
  // No event reports that it shrinks. A closed socket keeps its amount forever.
  if (bufferedAmount && state !== 'CLOSED') setTimeout(showBuffered, BUFFER_POLL_MS);
}

/** @param {string | ArrayBuffer} data */
function sendData(data) {
  connection.send(data);
  log.sent(data);
  showBuffered();
}

function sendMessage() {
  if (connection.state !== 'OPEN') return;
  const data = type.value === 'binary' ? parseHex(message.value) : message.value;
  if (data === null) {
    const details = 'Write bytes as pairs of hexadecimal digits, such as 48 65 6c 6c 6f.';
    log.event({ title: 'Not sent', details, mood: 'bad' });
    return;
  }
  sendData(data);
  lastMessage = message.value;
  message.value = '';
  message.placeholder = '↑ brings back the last message';
}

/** @param {SubmitEvent} event */
function openConnection(event) {
  event.preventDefault();
  if (connection.state !== 'CLOSED') return;
  const asked = protocols.value.split(/[\s,]+/).filter(Boolean);
  try {
    const typed = url.value.trim();
    // Users enter host:port/path, which would otherwise be a path of this server.
    const full = typed.includes('://') || typed.startsWith('/') ? typed : `${base.protocol.replace('http', 'ws')}//${typed}`;
    const target = new URL(full, base).href;
    log.event({
      title: `Connecting to ${target}`,
      details: asked.length ? `Requested subprotocols: ${asked.join(', ')}` : '',
    });
    connection.open(target, asked);
  } catch (error) {
    log.event({ title: 'The browser rejected this URL or subprotocol', details: `${url.value}\n${error}`, mood: 'bad' });
  }
}

byId('connection-form').addEventListener('submit', openConnection);
disconnect.addEventListener('click', () => connection.disconnect());

byId('message-form').addEventListener('submit', (event) => {
  event.preventDefault();
  sendMessage();
});

message.addEventListener('keydown', (event) => {
  // Enter also ends a composition in Chinese, Japanese or Korean, which must not send.
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    sendMessage();
  } else if (event.key === 'ArrowUp' && message.value === '') {
    message.value = lastMessage;
  }
});

/** @param {{path: string, speaks: string}[]} paths */
function offerUrls(paths) {
  const own = paths.filter(({ speaks }) => speaks === 'WebSocket').map(({ path }) => path);
  const others = own.filter((path) => !EXAMPLES.some((example) => example.split('?')[0] === path));
  byId('urls').replaceChildren(...[...EXAMPLES, ...others].map((path) => new Option('', new URL(path, base).href)));
}

function offerCommands() {
  byId('commands-note').textContent = server.problem
    ? `The list of commands could not be loaded (server.json: ${server.problem}). Everything else works, but close codes `
      + 'are shown without an explanation.'
    : 'Each button sends its name as a text message.';
  commands.replaceChildren(...server.commands.map(({ name, help }) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = name;
    button.title = help;
    button.disabled = connection.state !== 'OPEN';
    button.addEventListener('click', () => sendData(name));
    return button;
  }));
}

url.value = base.href;
offerUrls([]);
server = await loadServer();
offerUrls(server.paths);
offerCommands();
