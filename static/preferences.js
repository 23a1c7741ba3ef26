/**
 * What the page remembers in this browser: choices, saved connections, and the form across a reload.
 *
 * Rule 1: only what the user chose or saved; never an API key, never a message.
 * Rule 2: a browser that forbids storage costs the memory, not the page.
 */

const PREFIX = 'wsserver.';

/** Until the browser is closed, and across a reload of the tab. */
export const THIS_TAB = () => sessionStorage;
const ALWAYS = () => localStorage;

/**
 * @param {string} name
 * @param {any} fallback
 * @param {() => Storage} [storage]
 * @returns {any}
 */
export function recall(name, fallback, storage = ALWAYS) {
  try {
    const stored = storage().getItem(PREFIX + name);
    return stored === null ? fallback : JSON.parse(stored);
  } catch {
    return fallback;
  }
}

/**
 * @param {string} name
 * @param {unknown} value Removes the entry if it is null.
 * @param {() => Storage} [storage]
 */
export function remember(name, value, storage = ALWAYS) {
  try {
    if (value === null) storage().removeItem(PREFIX + name);
    else storage().setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden.
  }
}
