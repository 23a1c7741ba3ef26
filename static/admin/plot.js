/** A plot of the last minutes: one or two curves over a common scale. */

import { element } from './dom.js';
import { duration } from './format.js';
import { WINDOW_MS } from './samples.js';
import { t } from './words.js';

/** @typedef {{name: string, label?: string}} Curve */

const [WIDTH, HEIGHT] = [300, 76];
/** The plot begins with this time, and grows up to WINDOW_MS. */
const SHORTEST_MS = 60_000;
const NAMESPACE = 'http://www.w3.org/2000/svg';

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function shape(tag, attributes) {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

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
    this.picture = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
    this.ago = element('span');
    this.now = element('span');
    this.card = element('article', { className: 'plot' },
      element('div', { className: 'plot-head' }, this.heading, this.values),
      element('div', { className: 'plot-area' }, this.picture, this.scale),
      element('div', { className: 'plot-foot', aria: { hidden: true } }, this.ago, this.now));
    this.picture.addEventListener('pointermove', (event) => this.point(/** @type {PointerEvent} */ (event)));
    this.picture.addEventListener('pointerleave', () => { this.pointed = null; this.show(this.points, this.end); });
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
      return { label: label ? t(label) : '', text: value === null ? '–' : this.format(value) };
    });
    this.heading.textContent = title;
    this.scale.textContent = this.format(top);
    this.ago.textContent = t('ago', { time: duration(this.span / 1000) });
    this.now.textContent = this.pointed === null || !shown ? t('now') : `−${Math.round((end - shown.at) / 1000)} s`;
    this.values.replaceChildren(...texts.map(({ label, text }, index) => element('span', { className: `value curve-${index}` },
      ...(label ? [element('span', { className: 'dot', aria: { hidden: true } }), element('span', { className: 'quiet', textContent: label })] : []),
      element('strong', { textContent: text }))));
    this.picture.setAttribute('aria-label', `${title}: ${texts.map(({ label, text }) => `${label} ${text}`.trim()).join(', ')}`);
    this.draw(top, shown);
  }

  /**
   * @param {number} top
   * @param {{at: number} | undefined} shown
   */
  draw(top, shown) {
    /** @param {number} at */
    const x = (at) => WIDTH * (1 - (this.end - at) / this.span);
    /** @param {number} value */
    const y = (value) => HEIGHT - 1 - (HEIGHT - 4) * (value / top);
    const lines = [0, 0.5, 1].map((part) => shape('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part) }));
    const curves = this.curves.flatMap(({ name }, index) => runs(this.points, name).flatMap((run) => {
      const path = run.map(({ at, value }) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join('L');
      const [from, to] = [x(run[0].at).toFixed(1), x(run[run.length - 1].at).toFixed(1)];
      return [
        shape('path', { class: `area curve-${index}`, d: `M${from} ${HEIGHT}L${path}L${to} ${HEIGHT}Z` }),
        // A run of one sample is a dot: a line of no length with round ends.
        shape('path', { class: `line curve-${index}`, d: `M${path}${run.length === 1 ? 'h0' : ''}`, 'vector-effect': 'non-scaling-stroke' }),
      ];
    }));
    const marker = this.pointed !== null && shown
      ? [shape('line', { class: 'marker', x1: x(shown.at), x2: x(shown.at), y1: 0, y2: HEIGHT, 'vector-effect': 'non-scaling-stroke' })]
      : [];
    this.picture.replaceChildren(...lines, ...curves, ...marker);
  }
}

/**
 * The values of a curve, cut where there are none.
 *
 * @param {{at: number, values: import('./samples.js').Sample}[]} points
 * @param {string} name
 */
function runs(points, name) {
  /** @type {{at: number, value: number}[][]} */
  const found = [[]];
  for (const { at, values } of points) {
    const value = values[name];
    if (value === null || value === undefined) found.push([]);
    else found[found.length - 1].push({ at, value });
  }
  return found.filter((run) => run.length);
}

/** @param {number} value @returns {number} The next of 1, 2, 5, 10, 20, 50 … */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? 10 * power;
}
