/** A plot of the last minutes: one or two curves over a common scale, with the values at the pointer. */

import { t } from '../i18n.js';
import { drawCurves, keepDrawn } from '../plot.js';
import { element } from './dom.js';
import { duration } from './format.js';
import { WINDOW_MS } from './samples.js';

/** @typedef {{name: string, label?: 'in' | 'out'}} Curve */

/** The plot begins with this time, and grows up to WINDOW_MS. */
const SHORTEST_MS = 60_000;
const COLORS = { in: '--received', out: '--sent' };

/** A card with the plot, its title and the present values. */
export class Plot {
  /**
   * @param {string} title The name of its text.
   * @param {Curve[]} curves Name of a value of a sample; `label` is the name of a text.
   * @param {(value: number) => string} format
   * @param {number} least The smallest value that the scale ends at.
   */
  constructor(title, curves, format, least) {
    Object.assign(this, { title, curves, format, least });
    /** @type {number | null} */
    this.pointed = null;
    /** @type {{at: number, values: import('./samples.js').Sample}[]} */
    this.points = [];
    this.heading = element('h2', {});
    this.values = element('p', { className: 'values' });
    this.scale = element('span', { className: 'scale', aria: { hidden: true } });
    this.picture = /** @type {HTMLCanvasElement} */ (element('canvas', { role: 'img' }));
    this.ago = element('span');
    this.now = element('span');
    this.card = element('article', { className: 'plot' },
      element('div', { className: 'plot-head' }, this.heading, this.values),
      element('div', { className: 'plot-area' }, this.picture, this.scale),
      element('div', { className: 'plot-foot', aria: { hidden: true } }, this.ago, this.now));
    this.picture.addEventListener('pointermove', (event) => this.point(event));
    this.picture.addEventListener('pointerleave', () => { this.pointed = null; this.show(this.points, this.end); });
    keepDrawn(this.picture, () => this.points.length && this.show(this.points, this.end));
  }

  /** @param {PointerEvent} event */
  point(event) {
    const { left, width } = this.picture.getBoundingClientRect();
    const at = this.end - this.span * (1 - (event.clientX - left) / width);
    const found = this.points.reduce((best, one) => (Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best), this.points[0]);
    this.pointed = found?.at ?? null;
    this.show(this.points, this.end);
  }

  /**
   * @param {{at: number, values: import('./samples.js').Sample}[]} points
   * @param {number} end The time at the right edge.
   */
  show(points, end) {
    const age = points.length ? end - points[0].at : 0;
    Object.assign(this, { points, end, span: Math.min(WINDOW_MS, Math.max(SHORTEST_MS, age)) });
    const title = t(this.title);
    const top = ceiling(Math.max(this.least, ...points.flatMap(({ values }) => this.curves.map(({ name }) => values[name] ?? 0))));
    const shown = points.find(({ at }) => at === this.pointed) ?? points.at(-1);
    const texts = this.curves.map(({ name, label }) => {
      const value = shown?.values[name] ?? null;
      return { label, word: label ? t(label) : '', text: value === null ? '–' : this.format(value) };
    });
    this.heading.textContent = title;
    this.scale.textContent = this.format(top);
    this.ago.textContent = t('ago', { time: duration(this.span / 1000) });
    this.now.textContent = this.pointed === null || !shown ? t('now') : `−${Math.round((end - shown.at) / 1000)} s`;
    this.values.replaceChildren(...texts.map(({ label, word, text }) => element('span', { className: 'value' },
      ...(label ? [element('span', { className: `dot ${label}`, aria: { hidden: true } }), element('span', { className: 'quiet', textContent: word })] : []),
      element('strong', { textContent: text }))));
    this.picture.ariaLabel = `${title}: ${texts.map(({ word, text }) => `${word} ${text}`.trim()).join(', ')}`;
    this.draw(top, shown);
  }

  /**
   * @param {number} top
   * @param {{at: number} | undefined} shown
   */
  draw(top, shown) {
    const x = (/** @type {number} */ at) => 1 - (this.end - at) / this.span;
    drawCurves(this.picture, this.curves.map(({ name, label }) => ({
      color: label ? COLORS[label] : '--accent',
      fill: true,
      points: this.points.map(({ at, values }) => [x(at), (values[name] ?? NaN) / top]),
    })), { grid: [0, 0.5, 1], marker: this.pointed === null || !shown ? undefined : x(shown.at) });
  }
}

/** @param {number} value @returns {number} The next of 1, 2, 5, 10, 20, 50 … */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? 10 * power;
}
