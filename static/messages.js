/**
 * Everything that was sent, received, or happened: a ring of records, bounded in number and in bytes.
 *
 * Rule 1: no DOM; adding a record costs a few assignments, because a busy server sends thousands a second.
 */

/**
 * @typedef {object} Message
 * @property {number} seq Counts all records since the page was opened or cleared.
 * @property {number} at Milliseconds since 1970, with fractions.
 * @property {'sent' | 'received' | 'event'} direction
 * @property {string | ArrayBuffer} data The payload, or the title of an event.
 * @property {string} [details] More about an event.
 * @property {'good' | 'bad' | ''} [mood] Of an event.
 * @property {string} [channel] The channel that it came from, if it is not a message of the main connection.
 * @property {any} [wire] What the server saw of it; see tap.js.
 */

export const CAPACITY = 100_000;
const MAX_BYTES = 256 * 1024 * 1024;
const RECORD_BYTES = 100;

export class Messages {
  /** @type {(Message | undefined)[]} */
  #ring = [];
  #bytes = 0;
  /** The sequence number of the oldest record that is still there, and the one after the newest. */
  first = 0;
  end = 0;
  /** @type {Record<string, number>} */
  counts = { sent: 0, received: 0, event: 0 };

  /** @param {Omit<Message, 'seq' | 'at'>} message @returns {Message} */
  add(message) {
    const record = { ...message, seq: this.end, at: performance.timeOrigin + performance.now() };
    if (this.end - this.first === CAPACITY) this.#drop();
    this.#ring[this.end % CAPACITY] = record;
    this.end += 1;
    this.#bytes += weight(record);
    this.counts[record.direction] += 1;
    while (this.#bytes > MAX_BYTES && this.end - this.first > 1) this.#drop();
    return record;
  }

  /** @param {number} seq @returns {Message | undefined} */
  get(seq) {
    return seq >= this.first && seq < this.end ? this.#ring[seq % CAPACITY] : undefined;
  }

  get dropped() {
    return this.first;
  }

  clear() {
    this.#ring = [];
    this.first = this.end = this.#bytes = 0;
    this.counts = { sent: 0, received: 0, event: 0 };
  }

  #drop() {
    this.#bytes -= weight(/** @type {Message} */ (this.#ring[this.first % CAPACITY]));
    this.#ring[this.first % CAPACITY] = undefined;
    this.first += 1;
  }
}

/** @param {Message} record @returns {number} About how much memory it takes. */
function weight({ data }) {
  return RECORD_BYTES + (typeof data === 'string' ? data.length * 2 : data.byteLength);
}
