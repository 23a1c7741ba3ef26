/**
 * Short names for what the views do with the document.
 *
 * Rule 1: text goes in as text, never as markup. Clients choose their names, channels and paths.
 */

import { element } from '../dom.js';

export { byId, element } from '../dom.js';

/**
 * Text that a client has chosen. It is isolated, so that characters that change the direction of text change only this.
 *
 * @param {string} text
 * @param {string} [className]
 */
export const foreign = (text, className = '') => element('bdi', { className: `foreign ${className}`, textContent: text });

/**
 * @param {HTMLElement} where
 * @param {string} text Hides the element if it is empty.
 */
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
  where.hidden = !text;
}
