/**
 * The server's view of the connection: the frames that it saw, beside the messages they carried.
 *
 * The page names a secret in the URL, because it cannot read the headers of the handshake.
 */

const MAX_EARLY = 1000;
const KEPT = 100_000;
/** How many frames of one message are kept: the last ones. */
const MAX_FRAMES = 200;
const CLOSE = 8;
/** How long the server may take to say how the connection ended. */
const END_MS = 5000;

/** @typedef {import('./messages.js').Message} Message */
/** @typedef {Record<string, any>} WireEvent See docs/reference/tap.md. */

/**
 * @typedef {object} Listeners
 * @property {(message: Message) => void} onWire A message got another frame.
 * @property {(event: WireEvent) => void} onControl A control frame passed.
 */

export class Tap {
  #listeners;
  #secret = '';
  /** @type {EventSource | null} */
  #source = null;
  /** @type {Record<string, Map<number, Message>>} Direction on the wire -> number of the message -> its record. */
  #records = { in: new Map(), out: new Map() };
  #counts = { in: 0, out: 0 };
  /** @type {WireEvent[]} Frames that came before their message. */
  #early = [];
  /** @type {Message | null} */
  #opened = null;
  /** @type {WireEvent[]} */
  #handshakes = [];
  /** @type {WireEvent[]} The closing handshake, and how it ended. */
  #endings = [];
  /** @type {Message | null} */
  #closed = null;
  /** The number of the last event: a tap that is read again begins with what the server has kept. */
  #last = 0;
  #hasEnded = false;

  /** @param {Listeners} listeners */
  constructor(listeners) {
    this.#listeners = listeners;
    // A browser opens at most six connections to a server: hidden pages leave them to the others.
    document.addEventListener('visibilitychange', () => (document.hidden ? this.#source?.close() : this.#read()));
  }

  /** @param {string} url @param {boolean} wanted @returns {string} The URL of a connection with a tap, if one is possible. */
  prepare(url, wanted) {
    this.#source?.close();
    this.#source = null;
    this.#records = { in: new Map(), out: new Map() };
    this.#counts = { in: 0, out: 0 };
    this.#early = [];
    this.#handshakes = [];
    this.#endings = [];
    this.#opened = this.#closed = null;
    this.#last = 0;
    this.#hasEnded = false;
    this.#secret = '';
    const tapped = new URL(url);
    if (!wanted || tapped.host !== location.host || tapped.searchParams.has('tap')) return url;
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    this.#secret = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    tapped.searchParams.append('tap', this.#secret);
    return tapped.href;
  }

  /** The handshake is over, so the server has the tap. */
  open() {
    if (this.#secret && !this.#source && !document.hidden) this.#read();
  }

  #read() {
    if (!this.#secret || this.#hasEnded || (this.#source && this.#source.readyState !== EventSource.CLOSED)) return;
    this.#source = new EventSource(`tap/${this.#secret}`);
    this.#source.onmessage = ({ data }) => this.#on(JSON.parse(data));
    // Once the connection has ended, a lost tap is not worth another attempt.
    this.#source.onerror = () => this.#closed && this.#source?.close();
  }

  /** @param {Message} message A message of the connection, sent or received. */
  passed(message) {
    if (!this.#secret) return;
    const direction = message.direction === 'sent' ? 'in' : 'out';
    this.#counts[direction] += 1;
    const records = this.#records[direction];
    records.set(this.#counts[direction], message);
    records.delete(this.#counts[direction] - KEPT);
    const mine = (/** @type {WireEvent} */ event) => event.direction === direction && event.message === this.#counts[direction];
    if (!this.#early.length) return;
    for (const event of this.#early.filter(mine)) this.#attach(message, event);
    this.#early = this.#early.filter((event) => !mine(event));
  }

  /** @param {Message} message The event that says that the connection is open, or how it ended. @param {boolean} isOpen */
  happened(message, isOpen) {
    if (!this.#secret) return;
    if (isOpen) {
      this.#opened = message;
      for (const event of this.#handshakes) this.#attach(message, event);
    } else {
      this.#closed = message;
      const source = this.#source;
      setTimeout(() => source?.close(), END_MS);
      for (const event of this.#endings) this.#attach(message, event);
    }
  }

  /** @param {WireEvent} event */
  #on(event) {
    if (event.id <= this.#last) return;
    this.#last = event.id ?? this.#last;
    if (event.type === 'handshake') {
      if (this.#handshakes.length < MAX_FRAMES) this.#handshakes.push(event);
      if (this.#opened) this.#attach(this.#opened, event);
    } else if (event.type === 'frame' && event.opcode < CLOSE && event.message !== null) this.#frame(event);
    else if (event.type === 'end' || event.type === 'tcp' || event.opcode === CLOSE) this.#ending(event);
    else if (event.type !== 'left' && event.type !== 'joined') this.#listeners.onControl(event);
  }

  /** @param {WireEvent} event */
  #ending(event) {
    if (event.type === 'end') {
      this.#hasEnded = true;
      this.#source?.close();
    }
    if (this.#endings.push(event) > MAX_FRAMES) this.#endings.shift();
    if (this.#closed) this.#attach(this.#closed, event);
  }

  /** @param {WireEvent} event */
  #frame(event) {
    const message = this.#records[event.direction].get(event.message);
    if (message) this.#attach(message, event);
    else if (this.#early.push(event) > MAX_EARLY) this.#early.shift();
  }

  /** @param {Message} message @param {WireEvent} event */
  #attach(message, event) {
    // The message has its payload already.
    const { payload, text, ...frame } = event;
    message.wire ??= [];
    if (message.wire.push(frame) > MAX_FRAMES) message.wire.shift();
    this.#listeners.onWire(message);
  }
}
