/**
 * The page in the reader's language.
 *
 * Texts stand in one table per language (en.js, zh.js). A value is a string with {name} placeholders, or a function of
 * the parameters where a language needs grammar.
 */

import en from './en.js';
import zh from './zh.js';
import { recall, remember } from './preferences.js';

/** @type {Record<string, Record<string, any>>} */
const TABLES = { en, zh };
const ATTRIBUTES = { t: 'textContent', tLabel: 'ariaLabel', tTitle: 'title', tPlaceholder: 'placeholder' };

/** @type {(() => void)[]} */
const listeners = [];
let current = TABLES[recall('language', '')] ? recall('language', '') : preferred();

/** @returns {string} The first of the browser's languages that the page speaks. */
function preferred() {
  const spoken = navigator.languages.map((tag) => tag.toLowerCase().split('-')[0]);
  return spoken.find((language) => TABLES[language]) ?? 'en';
}

/** @returns {string} */
export const language = () => current;

/**
 * @param {string} key
 * @param {Record<string, any>} [values]
 * @returns {string} The key itself if no table has it.
 */
export function t(key, values = {}) {
  const text = TABLES[current][key] ?? en[key] ?? key;
  if (typeof text === 'function') return text(values);
  return text.replace(/\{(\w+)\}/g, (/** @type {string} */ whole, /** @type {string} */ name) => values[name] ?? whole);
}

/** @param {string} key @returns {boolean} Whether the current language has this text. */
export const isTranslated = (key) => key in TABLES[current];

/** @param {number} value @returns {string} */
export const number = (value) => value.toLocaleString(current);

/** @param {() => void} listener Called by applyLanguage(). */
export const onLanguage = (listener) => listeners.push(listener);

/** @param {HTMLElement} button Goes through the languages; shows the name of the next one. */
export function offerLanguages(button) {
  const names = Object.keys(TABLES);
  const next = () => names[(names.indexOf(current) + 1) % names.length];
  button.addEventListener('click', () => {
    current = next();
    remember('language', current);
    applyLanguage();
  });
  onLanguage(() => {
    button.lang = next();
    button.textContent = TABLES[next()].languageName;
  });
}

/** Write the texts of all elements with data-t attributes. */
export function applyLanguage() {
  document.documentElement.lang = current === 'zh' ? 'zh-CN' : current;
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (
    document.querySelectorAll('[data-t], [data-t-label], [data-t-title], [data-t-placeholder]')
  )) translate(one);
  for (const listener of listeners) listener();
}

/** @param {HTMLElement} one */
function translate(one) {
  for (const [name, property] of Object.entries(ATTRIBUTES)) {
    const key = one.dataset[name];
    if (key) Object.assign(one, { [property]: t(key) });
  }
}
