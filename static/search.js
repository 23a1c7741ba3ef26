/**
 * Which messages the list shows: those of a direction, and those that contain a text.
 */

import { toHex } from './bytes.js';
import { byId } from './dom.js';

const SEARCHED_BYTES = 65_536;

/** @typedef {import('./messages.js').Message} Message */
/** @typedef {(message: Message) => boolean} Test */

/**
 * @param {string} typed A text, hexadecimal digits for bytes, or a regular expression between slashes.
 * @returns {Test | null} null for an empty text.
 * @throws {SyntaxError} When the regular expression is wrong.
 */
export function makeSearch(typed) {
  if (!typed) return null;
  const pattern = /^\/(.+)\/$/s.exec(typed);
  if (pattern) {
    const expression = new RegExp(pattern[1], 'i');
    return ({ data, details = '' }) => typeof data === 'string' && (expression.test(data) || expression.test(details));
  }
  const wanted = typed.toLowerCase();
  const digits = wanted.replace(/\s/g, '');
  const isHex = /^([0-9a-f]{2})+$/.test(digits);
  return ({ data, details = '', channel = '' }) => {
    if (typeof data !== 'string') {
      return isHex && toHex(new Uint8Array(data, 0, Math.min(data.byteLength, SEARCHED_BYTES)), '').includes(digits);
    }
    return data.toLowerCase().includes(wanted) || details.toLowerCase().includes(wanted) || channel === typed;
  };
}

/** @param {(test: Test | null) => void} onChange */
export function offerSearch(onChange) {
  /** @type {HTMLInputElement} */ const field = byId('search');
  const buttons = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-show]'));
  let shown = 'all';
  const change = () => {
    let found = null;
    field.ariaInvalid = null;
    try {
      found = makeSearch(field.value);
    } catch {
      field.ariaInvalid = 'true';
    }
    const kind = shown;
    if (kind === 'all') onChange(found);
    else onChange((message) => message.direction === kind && (found === null || found(message)));
  };
  for (const button of buttons) {
    button.addEventListener('click', () => {
      shown = button.dataset.show ?? 'all';
      for (const one of buttons) one.ariaPressed = String(one === button);
      change();
    });
  }
  field.addEventListener('input', change);
}
