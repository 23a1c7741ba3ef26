/**
 * The message list: follows the newest message until the user scrolls up, then counts what is new.
 *
 * Rule 1: messages cost nothing here until the next frame, and then one layout, however many have come.
 */

import { Filtered } from './filter.js';
import { number, onLanguage, t } from './i18n.js';
import { fillRow, makeRow } from './row.js';
import { CAPACITY } from './messages.js';
import { byId, oncePerFrame } from './dom.js';
import { VirtualRows } from './virtual.js';

const FILTER_MS = 8;
const NEARLY_END_ROWS = 0.5;

/** @typedef {import('./messages.js').Message} Message */

export class MessageList {
  #view = byId('list');
  #latest = byId('latest');
  #messages;
  #rows;
  #following = true;
  #seenEnd = 0;
  #top = 0;
  #droppedBefore = 0;
  #selected = -1;
  #pressed = -1;
  #onSelect;
  draw = oncePerFrame(() => this.#draw());

  /**
   * @param {import('./messages.js').Messages} messages
   * @param {(message: Message, byKey: boolean) => void} onSelect
   */
  constructor(messages, onSelect) {
    this.#messages = messages;
    this.#onSelect = onSelect;
    this.filtered = new Filtered(messages);
    this.#rows = new VirtualRows(this.#view, makeRow, (row, index) => this.#fill(row, index));
    this.#listen();
    new ResizeObserver(() => {
      this.#rows.rowHeight = 0;
      this.#draw();
    }).observe(this.#view);
    onLanguage(this.draw);
  }

  /** @param {((message: Message) => boolean) | null} passes */
  filter(passes) {
    this.filtered.use(passes);
    this.draw();
  }

  clear() {
    this.#messages.clear();
    this.filtered.restart();
    this.#selected = -1;
    this.#droppedBefore = this.#seenEnd = 0;
    this.follow();
  }

  follow() {
    this.#following = true;
    this.draw();
  }

  #listen() {
    this.#view.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    // Before the browser scrolls, so that a frame in between does not pull the list back to its end.
    this.#view.addEventListener('wheel', ({ deltaY }) => deltaY < 0 && this.#pause(), { passive: true });
    this.#view.addEventListener('touchmove', () => this.#pause(), { passive: true });
    // Rows move on under the pointer: what counts is the message that was pressed.
    this.#view.addEventListener('pointerdown', ({ target }) => { this.#pressed = this.#seqOf(target); });
    this.#view.addEventListener('click', () => this.select(this.#pressed, false));
    this.#view.addEventListener('keydown', (event) => this.#onKey(event));
    this.#latest.addEventListener('click', () => {
      // The button is about to be hidden, and the focus would be lost.
      this.#view.focus();
      this.follow();
    });
  }

  /** @param {EventTarget | null} target */
  #seqOf(target) {
    const row = target instanceof Element ? target.closest('.message') : null;
    return row instanceof HTMLElement ? Number(row.dataset.seq) : -1;
  }

  #pause() {
    if (this.#view.scrollHeight <= this.#view.clientHeight || !this.#following) return;
    this.#following = false;
    this.#seenEnd = this.#messages.end;
    this.draw();
  }

  #scrolled() {
    const { clientHeight, scrollHeight, scrollTop } = this.#view;
    if (scrollHeight - scrollTop - clientHeight < this.#rows.rowHeight * NEARLY_END_ROWS) this.#following = true;
    // A list that became lower, or longer, has not been scrolled up.
    else if (scrollTop < this.#top - 1) this.#pause();
    this.#top = scrollTop;
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const page = Math.max(1, Math.floor(this.#view.clientHeight / this.#rows.rowHeight) - 1);
    const { length } = this.filtered;
    const from = this.#selected < 0 ? length : this.filtered.indexOf(this.#selected);
    const to = {
      ArrowUp: from - 1, ArrowDown: from + 1, PageUp: from - page, PageDown: from + page, Home: 0, End: length - 1,
    }[event.key];
    if (event.key === 'Enter' || event.key === ' ') this.select(this.#selected, true);
    else if (to === undefined) return;
    else this.#selectAt(Math.min(Math.max(to, 0), length - 1));
    event.preventDefault();
  }

  /** @param {number} index */
  #selectAt(index) {
    const message = this.filtered.at(index);
    if (!message) return;
    this.#following = index === this.filtered.length - 1;
    this.#rows.reveal(index);
    this.select(message.seq, false);
  }

  /** @param {number} seq @param {boolean} byKey Whether the user asked to open it with a key. */
  select(seq, byKey) {
    const message = this.#messages.get(seq);
    if (!message) return;
    this.#selected = seq;
    this.draw();
    this.#onSelect(message, byKey);
  }

  #draw() {
    const more = this.filtered.advance(FILTER_MS);
    this.#holdPosition();
    this.#view.removeAttribute('aria-activedescendant');
    this.#rows.render(this.filtered.length, this.#following);
    this.#top = this.#view.scrollTop;
    byId('list-empty').hidden = this.filtered.length > 0;
    this.#showCounts();
    if (more) this.draw();
  }

  /** Dropped rows vanish above: what the user reads stays where it is. */
  #holdPosition() {
    const dropped = this.#messages.dropped - this.#droppedBefore;
    this.#droppedBefore = this.#messages.dropped;
    if (dropped && !this.#following && !this.filtered.isFiltering) {
      this.#view.scrollTop = Math.max(0, this.#view.scrollTop - dropped * this.#rows.rowHeight);
    }
  }

  #showCounts() {
    const { counts, dropped, end } = this.#messages;
    byId('counts').textContent = this.filtered.isFiltering
      ? t('countsFiltered', { shown: number(this.filtered.length), all: number(end - dropped) })
      : t('counts', { sent: number(counts.sent), received: number(counts.received) });
    const news = end - this.#seenEnd;
    this.#latest.hidden = this.#following;
    this.#latest.textContent = news > 0 ? t('newMessages', { count: news }) : t('latest');
    byId('dropped').hidden = dropped === 0;
    if (dropped) byId('dropped').textContent = t('dropped', { count: dropped, limit: number(CAPACITY) });
  }

  /** @param {HTMLElement} row @param {number} index */
  #fill(row, index) {
    const message = this.filtered.at(index);
    if (!message) return;
    const state = `${message.seq} ${document.documentElement.lang} ${message.wire ? 1 : 0}`;
    if (row.dataset.state !== state) {
      row.dataset.state = state;
      row.dataset.seq = String(message.seq);
      fillRow(row, message);
    }
    row.ariaSelected = String(message.seq === this.#selected);
    row.ariaPosInSet = String(index + 1);
    row.ariaSetSize = String(this.filtered.length);
    if (message.seq === this.#selected) this.#view.setAttribute('aria-activedescendant', row.id);
  }
}
