/**
 * Announce messages and events to a screen reader: one sentence for a burst, so that announcements never pile up.
 */

import { t } from './i18n.js';

const SETTLE_MS = 300;
const PAUSE_MS = 2000;
const SPOKEN_CHARACTERS = 200;

export class Announcer {
  #waiting = 0;
  #latest = () => '';
  #spokenAt = -Infinity;
  #region;

  /** @param {Element} region An aria-live region. */
  constructor(region) {
    this.#region = region;
  }

  /** @param {() => string} text Is called if the text is spoken. */
  say(text) {
    this.#latest = text;
    this.#waiting += 1;
    if (this.#waiting > 1) return;
    const pause = this.#spokenAt + PAUSE_MS - performance.now();
    setTimeout(() => this.#speak(), Math.max(SETTLE_MS, pause));
  }

  #speak() {
    const latest = this.#latest().slice(0, SPOKEN_CHARACTERS);
    this.#region.textContent = this.#waiting > 1 ? t('announceMany', { count: this.#waiting, latest }) : latest;
    this.#spokenAt = performance.now();
    this.#waiting = 0;
  }
}
