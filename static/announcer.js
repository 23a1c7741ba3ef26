/**
 * Announce new log entries to a screen reader: one sentence for a burst, so that announcements never pile up.
 */

const SETTLE_MS = 300;
const PAUSE_MS = 2000;

export class Announcer {
  #waiting = 0;
  #latest = '';
  #spokenAt = -Infinity;
  #region;

  /** @param {Element} region An aria-live region. */
  constructor(region) {
    this.#region = region;
  }

  /** @param {string} text */
  say(text) {
    this.#latest = text;
    this.#waiting += 1;
    if (this.#waiting > 1) return;
    const pause = this.#spokenAt + PAUSE_MS - performance.now();
    setTimeout(() => this.#speak(), Math.max(SETTLE_MS, pause));
  }

  #speak() {
    const others = this.#waiting > 1 ? `${this.#waiting} new log entries, the last one: ` : '';
    this.#region.textContent = others + this.#latest;
    this.#spokenAt = performance.now();
    this.#waiting = 0;
  }
}
