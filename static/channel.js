/**
 * The channel panel: lists the publications of a channel, and publishes.
 *
 * Rule 1: the API key goes into one request header, and nowhere else.
 */

import { count } from './bytes.js';
import { Connection } from './connection.js';
import { explainEnding } from './explain.js';

/**
 * @typedef {object} Parts
 * @property {HTMLFormElement} form
 * @property {HTMLInputElement} name
 * @property {HTMLSelectElement} rewind
 * @property {HTMLButtonElement} toggle Subscribes and unsubscribes: one button, so that focus stays on it.
 * @property {HTMLFormElement} publishForm
 * @property {HTMLInputElement} data
 * @property {HTMLInputElement} key
 * @property {import('./log.js').Log} log
 * @property {URL} base The WebSocket URL of the server.
 * @property {() => import('./server.js').Server} server
 */

export class Channel {
  #parts;
  #connection;

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
    const { form, log, name, publishForm, rewind, toggle } = parts;
    this.#connection = new Connection({
      onState: (state) => {
        toggle.textContent = state === 'CLOSED' ? 'Subscribe' : 'Unsubscribe';
        name.readOnly = rewind.disabled = state !== 'CLOSED';
      },
      onOpened: () => log.event({ title: `Subscribed to ${name.value}`, mood: 'good' }),
      onMessage: (data) => log.received(data),
      onClosed: (ending) => this.#showEnding(ending, name.value, this.#query()),
    });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#connection.state === 'CLOSED') this.#subscribe();
    });
    toggle.addEventListener('click', () => {
      if (this.#connection.state === 'CLOSED') form.requestSubmit();
      else this.#connection.disconnect();
    });
    publishForm.addEventListener('submit', (event) => {
      event.preventDefault();
      if (name.reportValidity()) this.#publish(name.value);
    });
  }

  #query() {
    const { name, rewind } = this.#parts;
    return `channel=${encodeURIComponent(name.value)}${rewind.value && `&rewind=${rewind.value}`}`;
  }

  #subscribe() {
    this.#connection.open(new URL(`ws?format=raw&${this.#query()}`, this.#parts.base).href, []);
  }

  /**
   * @param {import('./connection.js').Ending} ending
   * @param {string} name
   * @param {string} query
   */
  async #showEnding(ending, name, query) {
    const { log, server } = this.#parts;
    const reason = ending.wasOpen || ending.byUs ? '' : await whyRefused(query);
    if (reason) log.event({ title: `Not subscribed to ${name}`, details: reason, mood: 'bad' });
    else if (ending.byUs && ending.wasOpen) log.event({ title: `Unsubscribed from ${name}` });
    else log.event(explainEnding(ending, server(), location.origin));
  }

  /** @param {string} name */
  async #publish(name) {
    const { base, data, key, log } = this.#parts;
    try {
      const details = key.value
        ? await publishWithKey(key.value, name, data.value)
        : await publishAsClient(new URL('connection/websocket', base), name, data.value);
      log.event({ title: `Published to ${name}`, details });
      data.value = '';
    } catch (error) {
      const details = error instanceof Error ? error.message : String(error);
      log.event({ title: `Not published to ${name}`, details, mood: 'bad' });
    }
  }
}

/**
 * @param {string} key
 * @param {string} channel
 * @param {string} data
 * @returns {Promise<string>} What happened, for the log.
 */
async function publishWithKey(key, channel, data) {
  const response = await fetch('api/publish', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-API-Key': key },
    body: JSON.stringify({ channel, data }),
  });
  const { result, error } = await response.json();
  if (!result) throw new Error(error?.message ?? `status ${response.status}`);
  return `Delivered to ${count(result.delivered, 'subscriber')} of this server`;
}

/**
 * Publish over the Centrifuge protocol, as clients may on channels of --channel-publish.
 *
 * @param {URL} url
 * @param {string} channel
 * @param {string} data
 * @returns {Promise<string>} What happened, for the log.
 */
async function publishAsClient(url, channel, data) {
  const socket = new WebSocket(url);
  const commands = [{ id: 1, connect: {} }, { id: 2, publish: { channel, data } }];
  socket.onopen = () => socket.send(commands.map((command) => JSON.stringify(command)).join('\n'));
  try {
    await new Promise((resolve, reject) => {
      socket.onclose = ({ code, reason }) => reject(new Error(reason || `closed with ${code}`));
      socket.onmessage = (event) => {
        for (const line of event.data.split('\n').filter(Boolean)) {
          const { id, error } = JSON.parse(line);
          if (error) reject(new Error(error.message));
          else if (id === 2) resolve(undefined);
        }
      };
    });
  } finally {
    socket.close();
  }
  return 'As a client, without an API key';
}

/**
 * Find out why the server refused a subscription. Browsers hide the response to a refused WebSocket; the server refuses
 * an event stream for the same reason, and this response can be read.
 *
 * @param {string} query
 * @returns {Promise<string>} Empty if the reason is unknown.
 */
async function whyRefused(query) {
  const stream = new AbortController();
  try {
    const response = await fetch(`sse?${query}`, { signal: stream.signal });
    return response.ok ? '' : await response.text();
  } catch {
    return '';
  } finally {
    stream.abort();
  }
}
