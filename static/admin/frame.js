/**
 * The frame around the view that is open: its title, search, pages, and what it says when there is nothing to show.
 *
 * Rule 1: knows no view. A view has a name, loads its rows, and shows them.
 */

import { byId, element, foreign, say } from './dom.js';
import { count } from './format.js';
import { hasSelection } from './table.js';
import { t } from '../i18n.js';

export const PAGE_SIZE = 50;
const REFRESH_MS = 5000;
const TYPING_MS = 250;

/** @typedef {import('./api.js').API} API */
/** @typedef {import('./samples.js').Samples} Samples */
/** @typedef {{api: API, samples: Samples, text: string, filter: string, cursor: any}} Query */
/** @typedef {{rows: any[], total: number, next?: any, note?: string}} Found `next` is missing on the last page. */
/**
 * @typedef {object} View
 * @property {string} name The name of its text, and its fragment of the URL.
 * @property {string} [search] The name of the text that says what one can search for; without it, there is no search.
 * @property {string} empty The name of the text for nothing.
 * @property {string} [emptyNote]
 * @property {boolean} [isCounted] Whether its rows come from the samples, so that it is as new as they are.
 * @property {(query: Query) => Promise<Found>} load
 * @property {(where: HTMLElement, rows: any[], samples: Samples) => void} show
 */

/** @param {any[]} rows All rows. @param {number | null} cursor @returns {Found} One page. */
export function slice(rows, cursor) {
  const start = Math.min(cursor ?? 0, Math.max(0, rows.length - 1));
  const next = start + PAGE_SIZE;
  return { rows: rows.slice(start, next), total: rows.length, ...(next < rows.length ? { next } : {}) };
}

/** The open view. */
export class Frame {
  /** @param {Samples} samples @param {(error: unknown) => void} onProblem Called with what is not about the view. */
  constructor(samples, onProblem) {
    Object.assign(this, { samples, onProblem });
    /** @type {API | null} */
    this.api = null;
    /** @type {View | null} */
    this.view = null;
    this.cursors = [null];
    [this.text, this.filter, this.turn, this.loadedAt] = ['', '', 0, 0];
    this.body = byId('view-body');
    this.search = /** @type {HTMLInputElement} */ (byId('search'));
    byId('search-form').addEventListener('submit', (event) => { event.preventDefault(); this.find(); });
    this.search.addEventListener('input', () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.find(), TYPING_MS);
    });
    byId('filter').addEventListener('click', () => { this.narrow(''); this.search.focus(); });
    byId('first').addEventListener('click', () => this.turnTo([null]));
    byId('previous').addEventListener('click', () => this.turnTo(this.cursors.slice(0, -1)));
    byId('next').addEventListener('click', () => this.turnTo([...this.cursors, this.found?.next]));
  }

  /** @param {View} view @param {string} [filter] A channel whose connections to show. */
  open(view, filter = '') {
    [this.view, this.text, this.filter, this.search.value] = [view, '', filter, ''];
    /** @type {Found | null} */
    this.found = null;
    this.label();
    this.body.replaceChildren(element('p', { className: 'empty', textContent: t('loading') }));
    this.turnTo([null]);
  }

  /** Show the texts in the present language. */
  label() {
    if (!this.view) return;
    byId('view-title').textContent = t(this.view.name);
    byId('search-form').hidden = !this.view.search;
    this.search.placeholder = this.search.ariaLabel = this.view.search ? t(this.view.search) : '';
    byId('filter').hidden = !this.filter;
    byId('filter').replaceChildren(`${t('channel')}: `, foreign(this.filter), ' ×');
    if (this.found) this.show();
  }

  find() {
    clearTimeout(this.typing);
    if (this.text === this.search.value.trim()) return;
    this.text = this.search.value.trim();
    this.turnTo([null]);
  }

  /** @param {string} filter */
  narrow(filter) {
    this.filter = filter;
    this.label();
    this.turnTo([null]);
  }

  /** @param {any[]} cursors */
  turnTo(cursors) {
    this.cursors = cursors.length ? cursors : [null];
    return this.refresh();
  }

  /** Show it again if it is time to. */
  tick() {
    const isDue = this.view?.isCounted || performance.now() - this.loadedAt >= REFRESH_MS;
    if (isDue && !hasSelection(this.body)) this.refresh();
  }

  /** @param {boolean} [isChanging] Whether a connection is closing, so that it should be shown again soon. */
  async refresh(isChanging = false) {
    const { api, view, samples, text, filter } = this;
    if (!api || !view) return;
    this.turn += 1;
    const turn = this.turn;
    this.loadedAt = isChanging ? -Infinity : performance.now();
    try {
      const found = await view.load({ api, samples, text, filter, cursor: this.cursors[this.cursors.length - 1] });
      if (turn !== this.turn) return;
      this.found = found;
      say(byId('view-problem'), '');
      this.show();
    } catch (error) {
      if (turn === this.turn) this.fail(error);
    }
  }

  /** @param {unknown} error */
  fail(error) {
    if (/** @type {any} */ (error).kind !== 'refused') this.onProblem(error);
    else {
      say(byId('view-problem'), /** @type {Error} */ (error).message);
      if (!this.found) this.body.replaceChildren();
    }
  }

  show() {
    const { found, view } = this;
    if (!found || !view) return;
    const { rows, total, next, note = '' } = found;
    const start = (this.cursors.length - 1) * PAGE_SIZE;
    if (rows.length) view.show(this.body, rows, this.samples);
    else this.showNothing(view);
    const hasPages = this.cursors.length > 1 || next !== undefined;
    byId('view-count').textContent = hasPages && rows.length
      ? t('range', { from: count(start + 1), to: count(start + rows.length), total: count(total) })
      : view.isCounted ? '' : count(total);
    say(byId('view-note'), note);
    byId('pages').hidden = !hasPages;
    for (const id of ['first', 'previous']) /** @type {HTMLButtonElement} */ (byId(id)).disabled = this.cursors.length === 1;
    /** @type {HTMLButtonElement} */ (byId('next')).disabled = next === undefined;
    byId('page-number').textContent = t('page', { n: count(this.cursors.length) });
  }

  /** @param {View} view */
  showNothing(view) {
    const wanted = this.text || this.filter;
    this.body.replaceChildren(element('div', { className: 'empty' },
      element('p', { textContent: wanted ? t('noMatch', { text: wanted }) : t(view.empty) }),
      ...(view.emptyNote && !wanted ? [element('p', { className: 'quiet', textContent: t(view.emptyNote) })] : [])));
  }
}
