/**
 * The messages that were sent before, for the arrow keys; the newest is the nearest.
 */

const MAX_KEPT = 100;
const MAX_CHARACTERS = 4 * 1024 * 1024;

export class SentBefore {
  /** @type {{type: string, text: string}[]} */
  #kept = [];
  /** How many steps back the user is; 0 is the message being written. */
  #back = 0;
  #draft = { type: 'text', text: '' };

  /** @param {string} type @param {string} text */
  add(type, text) {
    this.#back = 0;
    const last = this.#kept.at(-1);
    if (!text || last?.text === text && last.type === type) return;
    this.#kept.push({ type, text });
    const size = () => this.#kept.reduce((sum, one) => sum + one.text.length, 0);
    while (this.#kept.length > MAX_KEPT || size() > MAX_CHARACTERS) this.#kept.shift();
  }

  /** @param {{type: string, text: string}} current @returns {{type: string, text: string} | null} */
  older(current) {
    if (this.#back === this.#kept.length) return null;
    if (this.#back === 0) this.#draft = current;
    this.#back += 1;
    return this.#kept[this.#kept.length - this.#back];
  }

  /** @returns {{type: string, text: string} | null} */
  newer() {
    if (this.#back === 0) return null;
    this.#back -= 1;
    return this.#back === 0 ? this.#draft : this.#kept[this.#kept.length - this.#back];
  }
}
