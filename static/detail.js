/**
 * One message in full: as text, as a tree of JSON, as bytes; to copy and to save.
 */

import { exactSize, sizeOf, toHex } from './bytes.js';
import { byId, element } from './dom.js';
import { hexView } from './hexview.js';
import { onLanguage, t } from './i18n.js';
import { jsonTree, parseTree } from './jsontree.js';
import { clock } from './row.js';
import { copyText, saveFile } from './save.js';

/** @typedef {import('./messages.js').Message} Message */

const PART = 100_000;
const COPIED_MS = 1500;
const NARROW = matchMedia('(max-width: 47.99rem)');

export class Detail {
  /** @type {Message | null} */
  #message = null;
  #chosen = 'json';
  #body = byId('detail-body');
  /** More ways to show a message: name -> returns the element, or null if there is nothing to show. */
  /** @type {Record<string, (message: Message) => HTMLElement | null>} */
  views = { json: showJson, text: showText, hex: showHex };

  constructor() {
    byId('detail-copy').addEventListener('click', () => this.#copy());
    byId('detail-save').addEventListener('click', () => this.#save());
    byId('detail-close').addEventListener('click', () => this.close());
    byId('detail').addEventListener('keydown', ({ key }) => key === 'Escape' && this.close());
    byId('detail-tabs').addEventListener('keydown', (event) => this.#onTabKey(event));
    onLanguage(() => this.#message && this.#draw(this.#message));
  }

  /** @param {Message} message @param {boolean} takeFocus */
  show(message, takeFocus) {
    this.#message = message;
    document.body.classList.add('reading');
    this.#draw(message);
    if (NARROW.matches || takeFocus) (NARROW.matches ? byId('detail-close') : this.#body).focus();
  }

  close() {
    if (!document.body.classList.contains('reading')) return;
    document.body.classList.remove('reading');
    byId('list').focus();
  }

  /** Show the message again if it is the one in view: something about it has become known. */
  refresh(/** @type {Message} */ message) {
    if (this.#message === message) this.#draw(message);
  }

  /** @param {Message} message */
  #draw(message) {
    const isEvent = message.direction === 'event';
    const names = isEvent ? ['text', 'wire'] : Object.keys(this.views);
    const made = new Map(names.map((name) => [name, () => this.views[name](message)]));
    const possible = names.filter((name) => isPossible(name, message));
    const shown = possible.includes(this.#chosen) ? this.#chosen : possible[0];
    byId('detail-actions').hidden = false;
    byId('detail-tabs').hidden = possible.length < 2;
    byId('detail-tabs').replaceChildren(...possible.map((name) => this.#tab(name, name === shown)));
    byId('detail-facts').replaceChildren(...facts(message));
    this.#body.replaceChildren(made.get(shown)?.() ?? '');
    this.#body.scrollTop = 0;
  }

  /** @param {string} name @param {boolean} selected */
  #tab(name, selected) {
    const tab = element('button', { type: 'button', className: 'ghost', role: 'tab', id: `tab-${name}`, tabIndex: selected ? 0 : -1,
      aria: { selected, controls: 'detail-body' } }, t(`view.${name}`));
    tab.addEventListener('click', () => this.#choose(name));
    return tab;
  }

  /** @param {string} name */
  #choose(name) {
    this.#chosen = name;
    if (this.#message) this.#draw(this.#message);
    byId(`tab-${name}`).focus();
  }

  /** @param {KeyboardEvent} event */
  #onTabKey({ key }) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!step) return;
    const tabs = [...byId('detail-tabs').children];
    const at = tabs.findIndex((tab) => tab.ariaSelected === 'true');
    this.#choose(tabs[(at + step + tabs.length) % tabs.length].id.replace('tab-', ''));
  }

  async #copy() {
    if (!this.#message) return;
    const { data, details } = this.#message;
    await copyText(typeof data === 'string' ? [data, details].filter(Boolean).join('\n') : toHex(new Uint8Array(data)));
    byId('detail-copy').textContent = t('copied');
    setTimeout(() => { byId('detail-copy').textContent = t('copy'); }, COPIED_MS);
  }

  #save() {
    if (!this.#message) return;
    const { data, at, direction } = this.#message;
    const extension = typeof data !== 'string' ? 'bin' : parseTree(data) ? 'json' : 'txt';
    saveFile(data, `${direction}-${clock(new Date(at)).replace(/[:.]/g, '-')}.${extension}`);
  }
}

/** @param {string} name @param {Message} message */
function isPossible(name, message) {
  if (name === 'json') return typeof message.data === 'string' && parseTree(message.data) !== null;
  if (name === 'wire') return Boolean(message.wire);
  return true;
}

/** @param {Message} message @returns {HTMLElement[]} */
function facts(message) {
  const { direction, at, data, channel } = message;
  const rows = [
    [t('time'), clock(new Date(at))],
    direction !== 'event' && [t('kind'), `${t(direction)}, ${t(typeof data === 'string' ? 'text' : 'binary')}`],
    direction !== 'event' && [t('size'), exactSize(sizeOf(data))],
    channel && [t('channel'), channel],
  ];
  return rows.flatMap((row) => (row ? [element('dt', {}, row[0]), element('dd', {}, row[1])] : []));
}

/** @param {Message} message */
function showJson({ data }) {
  const parsed = typeof data === 'string' ? parseTree(data) : null;
  return parsed && jsonTree(parsed.value);
}

/** @param {Message} message */
function showText({ data, details }) {
  const text = typeof data === 'string' ? data : new TextDecoder().decode(data);
  const shown = element('pre', { dir: 'auto' });
  addText(shown, details ? `${text}\n\n${details}` : text || t('emptyMessage'), 0);
  return shown;
}

/** @param {HTMLElement} shown @param {string} text @param {number} from */
function addText(shown, text, from) {
  // A cut between two surrogates would show a character that was not sent.
  const part = text.slice(from, from + PART).replace(/[\uD800-\uDBFF]$/, '');
  const end = from + part.length;
  shown.append(part);
  if (end >= text.length) return;
  const more = element('button', { type: 'button' }, t('showRest', { count: text.length - end }));
  more.addEventListener('click', () => {
    more.remove();
    addText(shown, text, end);
  });
  shown.append(more);
}

/** @param {Message} message */
function showHex({ data }) {
  return hexView(typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data));
}
