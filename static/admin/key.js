/**
 * The API key, which the browser keeps for this tab until the tab is closed or the operator signs out.
 */

const NAME = 'wsserver.admin.key';

/** @returns {string} The key; empty if there is none. */
export function recallKey() {
  try {
    return sessionStorage.getItem(NAME) ?? '';
  } catch {
    return '';
  }
}

/** @param {string} key Empty to forget it. */
export function keepKey(key) {
  try {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
  } catch {
    // The browser forbids storage: a reload asks for the key again.
  }
}
