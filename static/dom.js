/**
 * Short names for what every panel does with the document.
 *
 * Rule 1: text from a peer goes in as text, never as markup; styles go in as properties, never as attributes.
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
 * Call a function at most once per frame, however often it is requested.
 *
 * @param {() => void} draw
 * @returns {() => void}
 */
export function oncePerFrame(draw) {
  let requested = false;
  return () => {
    if (requested) return;
    requested = true;
    requestAnimationFrame(() => {
      requested = false;
      draw();
    });
  };
}
