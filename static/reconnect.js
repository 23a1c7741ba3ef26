/**
 * When to connect again: the delay doubles with each failure, with jitter, so that clients do not return all at once.
 */

const FIRST_MS = 500;
const LONGEST_MS = 30_000;
const COUNTDOWN_MS = 250;

export class Reconnect {
  #failures = 0;
  #timer = 0;
  #connect;
  #onWait;

  /**
   * @param {() => void} connect
   * @param {(seconds: number) => void} onWait Called while waiting, with what remains.
   */
  constructor(connect, onWait) {
    this.#connect = connect;
    this.#onWait = onWait;
  }

  get isWaiting() {
    return this.#timer !== 0;
  }

  /** Wait, then connect. */
  schedule() {
    const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#failures);
    const at = performance.now() + longest * (0.5 + Math.random() / 2);
    this.#failures += 1;
    this.#wait(at);
  }

  /** The connection is open: the next failure is the first one again. */
  succeeded() {
    this.#failures = 0;
  }

  cancel() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  /** @param {number} at */
  #wait(at) {
    const remaining = at - performance.now();
    if (remaining <= 0) {
      this.#timer = 0;
      this.#connect();
      return;
    }
    this.#timer = setTimeout(() => this.#wait(at), Math.min(COUNTDOWN_MS, remaining));
    this.#onWait(Math.ceil(remaining / 1000));
  }
}
