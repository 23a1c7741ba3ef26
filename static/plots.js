/**
 * Live plots: messages and bytes a second in both directions, and how long answers take.
 */

import { formatSize } from './bytes.js';
import { byId } from './dom.js';
import { language, number, onLanguage, t } from './i18n.js';
import { Plot } from './plot.js';
import { recall, remember } from './preferences.js';
import { RoundTrips } from './roundtrip.js';

const TICK_MS = 500;
const POINTS = 120;
const WINDOW_MS = 10_000;
const WIDE = matchMedia('(min-width: 48rem) and (min-height: 40rem)');

/** @typedef {string | ArrayBuffer} Data */

export class Plots {
  trips = new RoundTrips();
  #counted = { in: 0, out: 0, inBytes: 0, outBytes: 0 };
  #rates = { in: 0, out: 0, inBytes: 0, outBytes: 0 };
  #idle = Infinity;
  #last = performance.now();
  #received = new Plot(byId('plot-received'), { series: [{ color: '--received', fill: true }], capacity: POINTS });
  #sent = new Plot(byId('plot-sent'), { series: [{ color: '--sent', fill: true }], capacity: POINTS });
  #latency = new Plot(byId('plot-latency'), {
    series: [{ color: '--warn' }, { color: '--binary' }, { color: '--received' }], capacity: POINTS,
  });

  constructor() {
    const toggle = byId('plots-toggle');
    const show = (/** @type {boolean} */ shown) => {
      byId('plots').hidden = !shown;
      toggle.ariaPressed = String(shown);
    };
    show(recall('plots', WIDE.matches));
    toggle.addEventListener('click', () => {
      show(byId('plots').hidden);
      remember('plots', !byId('plots').hidden);
    });
    setInterval(() => this.#tick(), TICK_MS);
    onLanguage(() => this.#show());
  }

  /** @param {Data} data */
  sent(data) {
    this.#counted.out += 1;
    this.#counted.outBytes += length(data);
    this.trips.sent(data, performance.now());
  }

  /** @param {Data} data @param {boolean} isAnswer Whether it can answer what was sent. */
  received(data, isAnswer) {
    this.#counted.in += 1;
    this.#counted.inBytes += length(data);
    if (isAnswer) this.trips.received(data, performance.now());
  }

  #tick() {
    const now = performance.now();
    const seconds = (now - this.#last) / 1000;
    this.#last = now;
    const { in: received, out, inBytes, outBytes } = this.#counted;
    this.#idle = received || out ? 0 : this.#idle + 1;
    this.#counted = { in: 0, out: 0, inBytes: 0, outBytes: 0 };
    // Nothing to draw once all points in view are zero.
    if (this.#idle > POINTS + 1) return;
    this.#rates = { in: received / seconds, out: out / seconds, inBytes: inBytes / seconds, outBytes: outBytes / seconds };
    const { p50, p95, p99 } = this.trips.percentiles(now - WINDOW_MS);
    this.#received.push([this.#rates.in]);
    this.#sent.push([this.#rates.out]);
    this.#latency.push([p99, p95, p50]);
    this.#show();
  }

  #show() {
    const { in: received, out, inBytes, outBytes } = this.#rates;
    byId('rate-received').textContent = t('perSecond', { count: number(Math.round(received)) });
    byId('bytes-received').textContent = t('perSecond', { count: formatSize(Math.round(inBytes)) });
    byId('rate-sent').textContent = t('perSecond', { count: number(Math.round(out)) });
    byId('bytes-sent').textContent = t('perSecond', { count: formatSize(Math.round(outBytes)) });
    const { p50, p95, p99 } = this.trips.percentiles(performance.now() - WINDOW_MS);
    byId('latency-p50').textContent = milliseconds(p50);
    byId('latency-p95').textContent = milliseconds(p95);
    byId('latency-p99').textContent = milliseconds(p99);
  }
}

/** @param {Data} data @returns {number} The size, in characters for text: counting UTF-8 takes too long at this rate. */
const length = (data) => (typeof data === 'string' ? data.length : data.byteLength);

/** @param {number} value @returns {string} */
function milliseconds(value) {
  if (!Number.isFinite(value)) return '–';
  return value.toLocaleString(language(), { maximumFractionDigits: value < 10 ? 1 : 0 });
}
