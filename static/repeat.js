/**
 * Send the message of the composer many times, at a rate.
 */

import { byId } from './dom.js';
import { number, t } from './i18n.js';

const TICK_MS = 10;
const MAX_BUFFERED = 1024 * 1024;
const MAX_PER_TICK = 500;

export class Repeat {
  /** @type {HTMLInputElement} */ #count = byId('repeat-count');
  /** @type {HTMLInputElement} */ #rate = byId('repeat-rate');
  #timer = 0;
  /** Counts the starts and stops, because reading a file takes time. */
  #turn = 0;
  #sent = 0;
  #read;
  #send;
  #buffered;

  /**
   * @param {() => Promise<string | ArrayBuffer | null>} read Returns the message.
   * @param {(data: string | ArrayBuffer) => void} send
   * @param {() => number} buffered
   */
  constructor(read, send, buffered) {
    this.#read = read;
    this.#send = send;
    this.#buffered = buffered;
    byId('repeat-form').addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#timer) this.stop();
      else this.#start();
    });
  }

  stop() {
    this.#turn += 1;
    clearInterval(this.#timer);
    this.#timer = 0;
    byId('repeat-start').textContent = t('start');
  }

  async #start() {
    this.#turn += 1;
    const turn = this.#turn;
    const data = await this.#read();
    if (data === null || turn !== this.#turn) return;
    const [count, rate] = [this.#count.valueAsNumber, this.#rate.valueAsNumber];
    let last = performance.now();
    let due = 1;
    this.#sent = 0;
    this.#timer = setInterval(() => {
      const now = performance.now();
      due = Math.min(due + (now - last) * rate / 1000, MAX_PER_TICK);
      last = now;
      // A server that does not read must not fill the memory of the browser.
      for (; due >= 1 && this.#sent < count && this.#buffered() < MAX_BUFFERED; due -= 1) {
        this.#send(data);
        this.#sent += 1;
      }
      byId('repeat-progress').textContent = `${number(this.#sent)} / ${number(count)}`;
      if (this.#sent >= count) this.stop();
    }, TICK_MS);
    byId('repeat-start').textContent = t('stop');
  }
}
