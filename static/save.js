/**
 * Give a message out of the page: to the clipboard, or as a file.
 */

import { element } from './dom.js';

/** @param {string} text @returns {Promise<void>} */
export async function copyText(text) {
  // Browsers offer the clipboard only to pages from localhost or over TLS.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const focused = document.activeElement;
  const field = /** @type {HTMLTextAreaElement} */ (element('textarea', { value: text, className: 'visually-hidden' }));
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
}

/** @param {string | ArrayBuffer | Blob} data @param {string} name */
export function saveFile(data, name) {
  const type = typeof data === 'string' ? 'text/plain' : 'application/octet-stream';
  const href = URL.createObjectURL(data instanceof Blob ? data : new Blob([data], { type }));
  /** @type {HTMLAnchorElement} */ (element('a', { href, download: name })).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
