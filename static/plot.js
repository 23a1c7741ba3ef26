/**
 * Small line charts on a canvas.
 *
 * Rule 1: knows nothing of what the numbers mean.
 */

import { onTheme } from './theme.js';

const LINE = 1.5;
const FILL_OPACITY = 0.14;

/** @typedef {{color: string, fill?: boolean}} Series The name of a custom property, such as --sent. */
/** @typedef {Series & {points: [number, number][]}} Curve Parts of the width and of the height; NaN leaves a gap. */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Curve[]} curves
 * @param {{grid?: number[], marker?: number}} [more] Heights of lines, and where the marker stands.
 */
export function drawCurves(canvas, curves, { grid = [], marker } = {}) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext('2d');
  if (!width || !height || !context) return;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  context.scale(devicePixelRatio, devicePixelRatio);
  context.lineCap = context.lineJoin = 'round';
  const x = (/** @type {number} */ part) => part * width;
  const y = (/** @type {number} */ part) => LINE + (height - LINE * 2) * (1 - part);
  const style = getComputedStyle(canvas);
  const use = (/** @type {string} */ color) => {
    // A custom property keeps light-dark() unresolved; a colour that is in use does not.
    canvas.style.color = `var(${color})`;
    context.strokeStyle = context.fillStyle = style.color;
  };
  const lines = [...grid.map((part) => [0, y(part), width, y(part)]),
    ...(marker === undefined ? [] : [[x(marker), 0, x(marker), height]])];
  lines.forEach(([left, top, right, bottom], index) => {
    use(index < grid.length ? '--line' : '--muted');
    context.stroke(new Path2D(`M${left} ${top}L${right} ${bottom}`));
  });
  context.lineWidth = LINE;
  for (const { color, fill, points } of curves) {
    use(color);
    for (const run of runs(points)) drawRun(context, run.map(([at, value]) => [x(at), y(value)]), fill ? height : NaN);
  }
}

/** @param {[number, number][]} points @returns {[number, number][][]} Those between gaps. */
function runs(points) {
  /** @type {[number, number][][]} */
  const found = [[]];
  for (const point of points) {
    if (Number.isFinite(point[1])) found[found.length - 1].push(point);
    else found.push([]);
  }
  return found.filter((run) => run.length);
}

/** @param {CanvasRenderingContext2D} context @param {number[][]} run @param {number} bottom NaN for no area below. */
function drawRun(context, run, bottom) {
  const [left, right] = [run[0][0], run[run.length - 1][0]];
  // One point alone is a dot: a line of no length has no ends to draw.
  const ends = run.length === 1 ? [[left + 0.01, run[0][1]]] : [];
  const line = new Path2D(`M${[...run, ...ends].map((point) => point.join(' ')).join('L')}`);
  if (bottom) {
    const area = new Path2D(line);
    area.lineTo(right, bottom);
    area.lineTo(left, bottom);
    context.globalAlpha = FILL_OPACITY;
    context.fill(area);
    context.globalAlpha = 1;
  }
  context.stroke(line);
}

/** Draw again when what a canvas looks like has changed. @param {HTMLCanvasElement} canvas @param {() => void} draw */
export function keepDrawn(canvas, draw) {
  new ResizeObserver(draw).observe(canvas);
  onTheme(draw);
}

/** A plot of numbers that come at an interval; it scales to the largest one in view. */
export class Plot {
  #canvas;
  #series;
  #capacity;
  /** @type {number[][]} */
  #points;

  /** @param {HTMLCanvasElement} canvas @param {{series: Series[], capacity: number}} options */
  constructor(canvas, { series, capacity }) {
    this.#canvas = canvas;
    this.#series = series;
    this.#capacity = capacity;
    this.#points = Array.from({ length: capacity }, () => series.map(({ fill }) => (fill ? 0 : NaN)));
    keepDrawn(canvas, () => this.draw());
  }

  /** @param {number[]} values One per series; NaN leaves a gap. */
  push(values) {
    this.#points.push(values);
    if (this.#points.length > this.#capacity) this.#points.shift();
    this.draw();
  }

  draw() {
    const most = Math.max(1e-9, ...this.#points.flat().filter(Number.isFinite));
    const at = (/** @type {number} */ index) => 1 - (this.#points.length - 1 - index) / (this.#capacity - 1);
    drawCurves(this.#canvas, this.#series.map((one, index) => ({
      ...one, points: this.#points.map((values, turn) => [at(turn), values[index] / most]),
    })));
  }
}
