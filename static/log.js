/**
 * The log: what was sent, what was received, what happened.
 *
 * Rule 1: what a peer sent goes in by textContent only.
 * Rule 2: the number of entries is bounded, in the document and before they reach it.
 */

import { count, preview } from './bytes.js';

const NEARLY_BOTTOM_PX = 24;
const SPOKEN_CHARACTERS = 200;
const ARROWS = { sent: '↑', received: '↓', event: '•' };

/**
 * @typedef {object} Happening An event that is not a message.
 * @property {string} title
 * @property {string} [details]
 * @property {'good' | 'bad'} [mood]
 */

export class Log {
  /** @type {HTMLElement[]} */
  #pending = [];
  #dropped = 0;
  #following = true;
  #limit;

  /**
   * @param {HTMLElement} panel Contains the elements that the selectors below name; buttons are optional.
   * @param {import('./announcer.js').Announcer} announcer
   * @param {number} limit Maximum number of lines.
   */
  constructor(panel, announcer, limit) {
    /** @type {(selector: string) => HTMLElement} */
    const part = (selector) => /** @type {HTMLElement} */ (panel.querySelector(selector));
    this.view = part('[role=log]');
    this.list = part('ol');
    this.notice = part('.dropped');
    /** @type {HTMLElement | null} */
    this.latest = panel.querySelector('.latest');
    this.announcer = announcer;
    this.#limit = limit;
    this.view.addEventListener('scroll', () => {
      const below = this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight;
      this.#following = below < NEARLY_BOTTOM_PX;
      if (this.latest) this.latest.hidden = this.#following;
    });
    this.latest?.addEventListener('click', () => {
      // The button is about to be hidden, and the focus would be lost.
      this.view.focus();
      this.#follow();
    });
    panel.querySelector('.clear')?.addEventListener('click', () => this.clear());
  }

  /** @param {string | ArrayBuffer} data */
  sent(data) {
    this.#add(messageRow('sent', preview(data)));
  }

  /** @param {string | ArrayBuffer} data */
  received(data) {
    const shown = preview(data);
    this.#add(messageRow('received', shown));
    this.announcer.say(`received ${shown.type}: ${shown.text.slice(0, SPOKEN_CHARACTERS) || shown.note}`);
  }

  /** @param {Happening} happening */
  event(happening) {
    this.#add(eventRow(happening));
    this.announcer.say(`${happening.title}. ${happening.details ?? ''}`);
  }

  clear() {
    this.#pending = [];
    this.#dropped = 0;
    this.list.replaceChildren();
    this.#show();
    this.#follow();
  }

  /** @param {HTMLElement} row */
  #add(row) {
    // One layout per frame, however many messages arrived. A hidden page gets no
    // frames at all, so the pending rows are bounded as well.
    if (this.#pending.push(row) === 1) requestAnimationFrame(() => this.#flush());
    if (this.#pending.length > this.#limit) {
      this.#pending.shift();
      this.#dropped += 1;
    }
  }

  #flush() {
    this.list.append(...this.#pending);
    this.#pending = [];
    while (this.list.childElementCount > this.#limit) {
      this.list.firstElementChild?.remove();
      this.#dropped += 1;
    }
    this.#show();
    if (this.#following) this.#follow();
  }

  #show() {
    this.notice.hidden = this.#dropped === 0;
    this.notice.textContent = `${count(this.#dropped, 'older line')} dropped; the log keeps the last ${this.#limit}.`;
  }

  #follow() {
    this.view.scrollTop = this.view.scrollHeight;
  }
}

/**
 * @param {'sent' | 'received'} direction
 * @param {import('./bytes.js').Preview} shown
 * @returns {HTMLElement}
 */
function messageRow(direction, { type, size, text, note }) {
  const row = startRow(direction, type);
  const payload = element('span', 'payload', text);
  // A message in a right-to-left script must not rearrange the elements around it.
  payload.dir = 'auto';
  const body = element('div', 'body');
  body.append(payload, element('span', 'note', note));
  row.append(element('span', 'type', type), element('span', 'size', count(size, 'byte')), body);
  return row;
}

/**
 * @param {Happening} happening
 * @returns {HTMLElement}
 */
function eventRow({ title, details = '', mood }) {
  const row = startRow('event', mood);
  const body = element('div', 'body');
  body.append(element('strong', 'title', title), element('span', 'details', details));
  row.append(body);
  return row;
}

/**
 * @param {keyof typeof ARROWS} direction
 * @param {string} [kind]
 * @returns {HTMLElement}
 */
function startRow(direction, kind = '') {
  const now = new Date();
  const row = element('li', `entry ${direction} ${kind}`);
  const time = element('time', 'time', clock(now));
  time.setAttribute('datetime', now.toISOString());
  const arrow = element('span', 'arrow', ARROWS[direction]);
  arrow.setAttribute('aria-hidden', 'true');
  const label = element('span', 'direction');
  label.append(arrow, ` ${direction}`);
  row.append(time, label);
  return row;
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} [text]
 * @returns {HTMLElement}
 */
function element(tag, className, text = '') {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

/**
 * @param {Date} time
 * @returns {string} Local time, in the same form in every locale, so that logs can be compared.
 */
function clock(time) {
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return `${parts.join(':')}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}
