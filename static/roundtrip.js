/**
 * How long answers take. An echo answers the message with the same content; if only one message waits for an answer, the
 * next message answers it.
 *
 * Rule 1: no DOM, no clock of its own.
 */

const MAX_WAITING = 10_000;
const MAX_KEPT = 5000;
const KEY_CHARACTERS = 200;

export class RoundTrips {
  /** @type {Map<string, number[]>} Content -> when it was sent. */
  #waiting = new Map();
  #count = 0;
  /** @type {{at: number, took: number}[]} */
  #kept = [];

  /** @param {string | ArrayBuffer} data @param {number} at */
  sent(data, at) {
    if (this.#count >= MAX_WAITING) this.reset();
    const key = keyOf(data);
    const same = this.#waiting.get(key);
    if (same) same.push(at);
    else this.#waiting.set(key, [at]);
    this.#count += 1;
  }

  /** @param {string | ArrayBuffer} data @param {number} at */
  received(data, at) {
    if (!this.#count) return;
    const own = keyOf(data);
    const key = this.#waiting.has(own) ? own : this.#count === 1 ? [...this.#waiting.keys()][0] : null;
    if (key === null) return;
    const times = /** @type {number[]} */ (this.#waiting.get(key));
    this.#kept.push({ at, took: at - /** @type {number} */ (times.shift()) });
    if (!times.length) this.#waiting.delete(key);
    this.#count -= 1;
    if (this.#kept.length > MAX_KEPT) this.#kept.splice(0, MAX_KEPT / 2);
  }

  /** Nothing that was sent will be answered any more. */
  reset() {
    this.#waiting.clear();
    this.#count = 0;
  }

  /**
   * @param {number} since
   * @returns {{count: number, p50: number, p95: number, p99: number}} In milliseconds; NaN if there are none.
   */
  percentiles(since) {
    const took = this.#kept.filter(({ at }) => at >= since).map((one) => one.took).sort((a, b) => a - b);
    const at = (/** @type {number} */ share) => (
      took.length ? took[Math.min(took.length - 1, Math.ceil(share * took.length) - 1)] : NaN);
    return { count: took.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
  }
}

/** @param {string | ArrayBuffer} data */
function keyOf(data) {
  if (typeof data === 'string') return data.length > KEY_CHARACTERS ? `${data.length} ${data.slice(0, KEY_CHARACTERS)}` : data;
  const head = new Uint8Array(data, 0, Math.min(data.byteLength, KEY_CHARACTERS));
  return `\0${data.byteLength} ${String.fromCharCode(...head)}`;
}
