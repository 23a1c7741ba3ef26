/**
 * The records that pass the filter, in order. A new filter is applied in slices, so that a search through 100,000
 * records never holds up the page.
 *
 * Rule 1: no DOM.
 */

const CHECK_CLOCK_EVERY = 256;
const COMPACT_AT = 4096;

/** @typedef {import('./messages.js').Message} Message */

export class Filtered {
  #messages;
  /** @type {((message: Message) => boolean) | null} */
  #passes = null;
  /** @type {number[]} Sequence numbers that pass; those before #head are dropped records. */
  #found = [];
  #head = 0;
  #cursor = 0;

  /** @param {import('./messages.js').Messages} messages */
  constructor(messages) {
    this.#messages = messages;
  }

  /** @param {((message: Message) => boolean) | null} passes null lets everything through. */
  use(passes) {
    this.#passes = passes;
    this.restart();
  }

  /** Begin again: the filter has changed, or the records are gone. */
  restart() {
    this.#found = [];
    this.#head = 0;
    this.#cursor = this.#messages.first;
  }

  get isFiltering() {
    return this.#passes !== null;
  }

  get length() {
    return this.#passes ? this.#found.length - this.#head : this.#messages.end - this.#messages.first;
  }

  /** @param {number} index @returns {Message | undefined} */
  at(index) {
    return this.#messages.get(this.#passes ? this.#found[this.#head + index] : this.#messages.first + index);
  }

  /** @returns {Message[]} */
  all() {
    const found = Array.from({ length: this.length }, (_, index) => this.at(index));
    return /** @type {Message[]} */ (found.filter(Boolean));
  }

  /** @param {number} seq @returns {number} The index of a record, or of the first one after it. */
  indexOf(seq) {
    if (!this.#passes) return Math.max(0, seq - this.#messages.first);
    let [low, high] = [this.#head, this.#found.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#found[middle] < seq) low = middle + 1;
      else high = middle;
    }
    return low - this.#head;
  }

  /**
   * Examine records that came since the last call.
   *
   * @param {number} milliseconds How long it may take.
   * @returns {boolean} Whether there are more to examine.
   */
  advance(milliseconds) {
    if (!this.#passes) return false;
    this.#trim();
    const deadline = performance.now() + milliseconds;
    this.#cursor = Math.max(this.#cursor, this.#messages.first);
    for (; this.#cursor < this.#messages.end; this.#cursor += 1) {
      if (this.#passes(/** @type {Message} */ (this.#messages.get(this.#cursor)))) this.#found.push(this.#cursor);
      if (this.#cursor % CHECK_CLOCK_EVERY === 0 && performance.now() > deadline) {
        this.#cursor += 1;
        break;
      }
    }
    return this.#cursor < this.#messages.end;
  }

  #trim() {
    while (this.#found[this.#head] < this.#messages.first) this.#head += 1;
    if (this.#head > COMPACT_AT) {
      this.#found.splice(0, this.#head);
      this.#head = 0;
    }
  }
}
