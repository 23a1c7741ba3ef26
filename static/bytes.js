/**
 * Show bytes to the user: sizes as text, and binary messages as hexadecimal digits and back.
 *
 * Rule 1: pure functions; no DOM, no connection.
 */

const PREVIEW_CHARACTERS = 2000;
const PREVIEW_BYTES = 256;
const EMPTY = 'empty message';

/**
 * @typedef {object} Preview A message as shown, shortened if it is long.
 * @property {'text' | 'binary'} type
 * @property {number} size The true size of the payload in bytes.
 * @property {string} text
 * @property {string} note How much was left out; empty if nothing was.
 */

/**
 * @param {number} value
 * @param {string} noun
 * @returns {string}
 */
export function count(value, noun) {
  return `${value.toLocaleString('en')} ${noun}${value === 1 ? '' : 's'}`;
}

/**
 * @param {string | ArrayBuffer} data
 * @returns {Preview}
 */
export function preview(data) {
  return typeof data === 'string' ? previewText(data) : previewBinary(new Uint8Array(data));
}

/**
 * @param {string} hex
 * @returns {ArrayBuffer | null} null when the text isn't whole bytes in hexadecimal.
 */
export function parseHex(hex) {
  const digits = hex.replace(/\b0x(?=[0-9a-f])|[\s,:]/gi, '');
  if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) return null;
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16)).buffer;
}

/**
 * @param {string} data
 * @returns {Preview}
 */
function previewText(data) {
  const size = new TextEncoder().encode(data).length;
  if (data.length <= PREVIEW_CHARACTERS) return { type: 'text', size, text: data, note: data ? '' : EMPTY };
  // A cut between two surrogates would show a character that was not sent.
  const text = data.slice(0, PREVIEW_CHARACTERS).replace(/[\uD800-\uDBFF]$/, '');
  return { type: 'text', size, text, note: shortened(text.length, data.length, 'character') };
}

/**
 * @param {Uint8Array} bytes
 * @returns {Preview}
 */
function previewBinary(bytes) {
  const text = Array.from(bytes.subarray(0, PREVIEW_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  if (bytes.length <= PREVIEW_BYTES) return { type: 'binary', size: bytes.length, text, note: text ? '' : EMPTY };
  return { type: 'binary', size: bytes.length, text, note: shortened(PREVIEW_BYTES, bytes.length, 'byte') };
}

/**
 * @param {number} shown
 * @param {number} total
 * @param {string} noun
 * @returns {string}
 */
function shortened(shown, total, noun) {
  return `… shortened: ${shown.toLocaleString('en')} of ${count(total, noun)} shown`;
}
