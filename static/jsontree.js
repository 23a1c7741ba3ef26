/**
 * JSON as a tree that opens and closes. Branches are made when they are opened, and long ones in parts, so that a
 * message of megabytes opens at once.
 *
 * Rule 1: numbers are shown as they were sent, also those that JavaScript would round.
 */

import { element } from './dom.js';
import { number, t } from './i18n.js';

const PART = 200;
const OPEN_LEVELS = 2;
const OPEN_MAX = 50;

/** A number as it was written. */
class Written {
  /** @param {string} source */
  constructor(source) {
    this.source = source;
  }
}

/**
 * @param {string} text
 * @returns {{value: unknown} | null} null if it is not a JSON object or array.
 */
export function parseTree(text) {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    const keep = (/** @type {string} */ _, /** @type {any} */ value, /** @type {any} */ context) => (
      typeof value === 'number' && context?.source !== undefined && context.source !== String(value)
        ? new Written(context.source) : value);
    return { value: JSON.parse(text, /** @type {any} */ (keep)) };
  } catch {
    return null;
  }
}

/** @param {unknown} value @returns {HTMLElement} */
export const jsonTree = (value) => element('div', { className: 'tree' }, node(value, null, 0));

/** @param {unknown} value @param {string | null} key @param {number} level @returns {HTMLElement} */
function node(value, key, level) {
  const label = key === null ? [] : [element('span', { className: 'key' }, key), ': '];
  if (value === null || typeof value !== 'object' || value instanceof Written) {
    return element('div', { className: 'leaf' }, ...label, leaf(value));
  }
  const entries = Object.entries(value);
  const brackets = Array.isArray(value) ? '[]' : '{}';
  const size = element('span', { className: 'hint' }, `${brackets[0]} ${t('items', { count: entries.length, shown: number(entries.length) })} ${brackets[1]}`);
  if (!entries.length) return element('div', { className: 'leaf' }, ...label, brackets);
  const branch = /** @type {HTMLDetailsElement} */ (element('details', {}, element('summary', {}, ...label, size)));
  const fill = () => branch.childElementCount === 1 && addPart(branch, entries, 0, level + 1);
  branch.addEventListener('toggle', fill);
  branch.open = level < OPEN_LEVELS && entries.length <= OPEN_MAX || level === 0;
  if (branch.open) fill();
  return branch;
}

/** @param {HTMLElement} branch @param {[string, unknown][]} entries @param {number} from @param {number} level */
function addPart(branch, entries, from, level) {
  branch.append(...entries.slice(from, from + PART).map(([key, value]) => node(value, key, level)));
  const rest = entries.length - from - PART;
  if (rest <= 0) return;
  const more = element('button', { type: 'button', className: 'ghost' }, t('showMore', { count: number(rest) }));
  more.addEventListener('click', () => {
    more.remove();
    addPart(branch, entries, from + PART, level);
  });
  branch.append(more);
}

/** @param {unknown} value @returns {HTMLElement} */
function leaf(value) {
  if (value instanceof Written) return element('span', { className: 'number' }, value.source);
  return element('span', { className: value === null ? 'null' : typeof value }, JSON.stringify(value));
}
