/**
 * A list of any length in which only the rows in view exist. All rows have the same height, which the style sheet says.
 *
 * Rule 1: knows nothing of what the rows show.
 */

const SPARE_ROWS = 4;

export class VirtualRows {
  #viewport;
  #spacer;
  #window;
  #make;
  #fill;
  /** @type {HTMLElement[]} */
  #rows = [];
  rowHeight = 0;
  /** The index of the first row that exists. */
  first = 0;

  /**
   * @param {HTMLElement} viewport Scrolls; contains the element that is as high as all rows, and in it their container.
   * @param {() => HTMLElement} make
   * @param {(row: HTMLElement, index: number) => void} fill
   */
  constructor(viewport, make, fill) {
    this.#viewport = viewport;
    this.#spacer = /** @type {HTMLElement} */ (viewport.firstElementChild);
    this.#window = /** @type {HTMLElement} */ (this.#spacer.firstElementChild);
    this.#make = make;
    this.#fill = fill;
  }

  /** Forget the height of a row: the style may have changed. */
  measure() {
    if (!this.#rows.length) this.#addRow();
    this.#rows[0].hidden = false;
    this.rowHeight = this.#rows[0].getBoundingClientRect().height;
  }

  /** @param {number} count The number of rows. @param {boolean} atEnd Whether the last row is to be in view. */
  render(count, atEnd) {
    if (!this.rowHeight) this.measure();
    if (!this.rowHeight) return;
    const height = this.#viewport.clientHeight;
    const total = count * this.rowHeight;
    const top = atEnd ? Math.max(0, total - height) : Math.min(this.#viewport.scrollTop, Math.max(0, total - height));
    this.first = Math.max(0, Math.floor(top / this.rowHeight) - SPARE_ROWS);
    const last = Math.min(count, Math.ceil((top + height) / this.rowHeight) + SPARE_ROWS);
    while (this.#rows.length < last - this.first) this.#addRow();
    this.#spacer.style.height = `${total}px`;
    this.#window.style.transform = `translateY(${this.first * this.rowHeight}px)`;
    this.#rows.forEach((row, slot) => {
      row.hidden = this.first + slot >= last;
      if (!row.hidden) this.#fill(row, this.first + slot);
    });
    if (atEnd) this.#viewport.scrollTop = total;
  }

  /** @param {number} index Scroll as little as possible to bring this row into view. */
  reveal(index) {
    const top = index * this.rowHeight;
    const view = this.#viewport;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this.rowHeight > view.scrollTop + view.clientHeight) {
      view.scrollTop = top + this.rowHeight - view.clientHeight;
    }
  }

  #addRow() {
    const row = this.#make();
    this.#rows.push(row);
    this.#window.append(row);
  }
}
