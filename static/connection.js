/**
 * One WebSocket at a time, and how it ends.
 *
 * Rule 1: no DOM and no texts for the user; listeners decide what to show.
 * Rule 2: every open() that doesn't throw ends in exactly one onClosed.
 */

/** @typedef {'CONNECTING' | 'OPEN' | 'CLOSING' | 'CLOSED'} State */

/**
 * @typedef {object} Ending
 * @property {string} url
 * @property {string[]} protocols The requested subprotocols.
 * @property {number} code
 * @property {string} reason
 * @property {boolean} wasClean
 * @property {boolean} wasOpen False when the opening handshake never completed.
 * @property {boolean} byUs True when disconnect() came first.
 */

/**
 * @typedef {object} Listeners
 * @property {(state: State) => void} onState
 * @property {(socket: WebSocket, milliseconds: number) => void} onOpened
 * @property {(data: string | ArrayBuffer) => void} onMessage
 * @property {(ending: Ending) => void} onClosed
 */

/** @type {State[]} Indexed by WebSocket.readyState. */
const STATES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];

export class Connection {
  /** @type {WebSocket | null} */
  #socket = null;
  #byUs = false;
  /** @type {Listeners} */
  #listeners;

  /** @param {Listeners} listeners */
  constructor(listeners) {
    this.#listeners = listeners;
  }

  /** @returns {State} */
  get state() {
    return STATES[this.#socket?.readyState ?? WebSocket.CLOSED];
  }

  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /**
   * @param {string} url
   * @param {string[]} protocols
   * @throws {DOMException} When the browser refuses the URL or a subprotocol before it tries.
   */
  open(url, protocols) {
    const socket = new WebSocket(url, protocols);
    const started = performance.now();
    let wasOpen = false;
    // Blobs are read asynchronously: messages would appear out of order.
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      wasOpen = true;
      this.#listeners.onOpened(socket, performance.now() - started);
      this.#listeners.onState('OPEN');
    };
    socket.onmessage = ({ data }) => this.#listeners.onMessage(data);
    socket.onclose = ({ code, reason, wasClean }) => {
      this.#listeners.onClosed({ url, protocols, code, reason, wasClean, wasOpen, byUs: this.#byUs });
      this.#listeners.onState('CLOSED');
    };
    this.#socket = socket;
    this.#byUs = false;
    this.#listeners.onState('CONNECTING');
  }

  /** @param {string | ArrayBuffer} data */
  send(data) {
    this.#socket?.send(data);
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   * @throws {DOMException} When the browser does not let pages send this code or reason.
   */
  disconnect(code = 1000, reason = '') {
    if (this.state === 'CLOSED' || this.state === 'CLOSING') return;
    // While connecting, a code can't be sent; the browser then reports 1006.
    this.#socket?.close(code, reason);
    this.#byUs = true;
    this.#listeners.onState('CLOSING');
  }
}
