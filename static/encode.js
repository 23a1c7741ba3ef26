/**
 * What the user typed, as a message: text, checked JSON, or bytes.
 *
 * Rule 1: pure functions.
 */

import { parseBase64, parseHex } from './bytes.js';
import { t } from './i18n.js';

/** @typedef {{data: string | ArrayBuffer, problem?: undefined} | {data?: undefined, problem: string}} Encoded */

/** @type {Record<string, (text: string) => Encoded>} */
const ENCODERS = {
  text: (text) => ({ data: text }),
  json: checkJson,
  hex: (text) => bytes(parseHex(text), 'badHex'),
  base64: (text) => bytes(parseBase64(text), 'badBase64'),
};

/**
 * @param {string} type
 * @param {string} text
 * @returns {Encoded}
 */
export const encode = (type, text) => ENCODERS[type](text);

/** @param {string} text @returns {Encoded} The text itself: what is sent is what was typed. */
function checkJson(text) {
  try {
    JSON.parse(text);
    return { data: text };
  } catch (error) {
    return { problem: t('badJson', { error: error instanceof Error ? error.message : '' }) };
  }
}

/** @param {ArrayBuffer | null} data @param {string} problem @returns {Encoded} */
const bytes = (data, problem) => (data ? { data } : { problem: t(problem) });
