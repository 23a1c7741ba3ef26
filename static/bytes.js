/**
 * Bytes as people read them: sizes as text, binary messages as hexadecimal digits or base64 and back.
 *
 * Rule 1: pure functions; no DOM, no connection.
 */

import { language, number, t } from './i18n.js';

const PREVIEW_BYTES = 96;
const encoder = new TextEncoder();
const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** @param {string | ArrayBuffer} data @returns {number} The size of the payload in bytes. */
export function sizeOf(data) {
  return typeof data === 'string' ? encoder.encode(data).length : data.byteLength;
}

/** @param {number} size @returns {string} Such as 23 B or 1.2 MB. */
export function formatSize(size) {
  if (size < 1000) return `${size} B`;
  const unit = size < 999_500 ? 'kB' : 'MB';
  const value = size / (unit === 'kB' ? 1e3 : 1e6);
  return `${value.toLocaleString(language(), { maximumFractionDigits: value < 10 ? 1 : 0 })} ${unit}`;
}

/** @param {number} size @returns {string} Such as 1,234 bytes. */
export const exactSize = (size) => t('bytes', { count: size, shown: number(size) });

/** @param {ArrayBuffer} data @returns {string} The beginning, in hexadecimal. */
export function previewBytes(data) {
  if (!data.byteLength) return t('emptyMessage');
  return toHex(new Uint8Array(data, 0, Math.min(data.byteLength, PREVIEW_BYTES))) + (data.byteLength > PREVIEW_BYTES ? ' …' : '');
}

/** @param {Uint8Array} bytes @param {string} [separator] @returns {string} */
export const toHex = (bytes, separator = ' ') => Array.from(bytes, (byte) => DIGITS[byte]).join(separator);

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
 * @param {string} text Base64 or base64url, with or without padding.
 * @returns {ArrayBuffer | null} null when the text is neither.
 */
export function parseBase64(text) {
  try {
    const standard = text.replace(/\s/g, '').replaceAll('-', '+').replaceAll('_', '/');
    return Uint8Array.from(atob(standard), (character) => character.charCodeAt(0)).buffer;
  } catch {
    return null;
  }
}

/** @param {Uint8Array} bytes @returns {string} */
export function toBase64(bytes) {
  let binary = '';
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(binary);
}
