/**
 * Short names for what the views do with the document.
 *
 * Rule 1: text goes in as text, never as markup. Clients choose their names, channels and paths.
 */

/**
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export const byId = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * @param {string} tag
 * @param {Record<string, any>} [properties] Properties of the element; `data` and `aria` hold attributes.
 * @param {(Node | string)[]} children
 * @returns {HTMLElement}
 */
export function element(tag, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, String(value));
  made.append(...children);
  return made;
}

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
