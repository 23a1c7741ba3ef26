/**
 * A small line chart on a canvas, for numbers that come at an interval; it scales to the largest one in view.
 *
 * Rule 1: knows nothing of what the numbers mean.
 */

const LINE = 1.5;
const FILL_OPACITY = 0.14;

/** @typedef {{color: string, fill?: boolean}} Series The name of a custom property, such as --sent. */

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
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** @param {number[]} values One per series; NaN leaves a gap. */
  push(values) {
    this.#points.push(values);
    if (this.#points.length > this.#capacity) this.#points.shift();
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const context = this.#canvas.getContext('2d');
    if (!width || !height || !context) return;
    const scale = devicePixelRatio;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    context.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const most = Math.max(1e-9, ...this.#points.flat().filter(Number.isFinite));
    this.#series.forEach(({ color, fill }, index) => {
      const line = this.#line(index, width, height - LINE * 2, most);
      // A custom property keeps light-dark() unresolved; a colour that is in use does not.
      this.#canvas.style.color = `var(${color})`;
      context.strokeStyle = context.fillStyle = style.color;
      if (fill) this.#fill(context, line, width, height);
      context.lineWidth = LINE;
      context.lineJoin = 'round';
      context.stroke(line);
    });
  }

  /** @param {number} index @param {number} width @param {number} height @param {number} most */
  #line(index, width, height, most) {
    const line = new Path2D();
    const step = width / (this.#capacity - 1);
    const left = width - (this.#points.length - 1) * step;
    let isDrawing = false;
    this.#points.forEach((values, at) => {
      const value = values[index];
      if (!Number.isFinite(value)) isDrawing = false;
      else {
        const y = LINE + height * (1 - value / most);
        if (isDrawing) line.lineTo(left + at * step, y);
        else line.moveTo(left + at * step, y);
        isDrawing = true;
      }
    });
    return line;
  }

  /** @param {CanvasRenderingContext2D} context @param {Path2D} line @param {number} width @param {number} height */
  #fill(context, line, width, height) {
    if (this.#points.length < 2) return;
    const area = new Path2D(line);
    const left = width - (this.#points.length - 1) * width / (this.#capacity - 1);
    area.lineTo(width, height);
    area.lineTo(left, height);
    context.globalAlpha = FILL_OPACITY;
    context.fill(area);
    context.globalAlpha = 1;
  }
}
