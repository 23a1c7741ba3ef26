/**
 * The pages in the reader's language: English, which is always there, and others, which load when they are chosen.
 *
 * A page's own texts have names, and stand in one table per language, such as en.js and zh.js. A value is a string with
 * {name} placeholders, or a function of the parameters where a language needs grammar. Texts that the server writes have
 * no names: a table translates the English sentence, in which # stands for a number.
 */

import { recall, remember } from './preferences.js';

/** @typedef {Record<string, any>} Table */
/** @typedef {{en?: Table, zh: () => Promise<Table>}} Texts */

/** @type {Record<string, string>} Each language in its own words. */
const NAMES = { en: 'English', zh: '中文' };
const ATTRIBUTES = { t: 'textContent', tLabel: 'ariaLabel', tTitle: 'title', tPlaceholder: 'placeholder' };
const NUMBER = /\d+(?:\.\d+)*/g;

/** @type {Texts[]} */
const sources = [];
/** @type {(() => void)[]} */
const listeners = [];
/** @type {Table} */
const english = Object.create(null);
/** @type {Table} */
let chosen = Object.create(null);
let current = Object.hasOwn(NAMES, recall('language', '')) ? recall('language', '') : preferred();

/** @returns {string} The first of the browser's languages that the pages speak. */
function preferred() {
  const spoken = navigator.languages.map((tag) => tag.toLowerCase().split('-')[0]);
  return spoken.find((language) => Object.hasOwn(NAMES, language)) ?? 'en';
}

/** @returns {string} */
export const language = () => current;

/**
 * @param {string} key
 * @param {Record<string, any>} [values]
 * @returns {string} The key itself if no table has it.
 */
export function t(key, values = {}) {
  const text = chosen[key] ?? english[key] ?? key;
  if (typeof text === 'function') return text(values);
  return text.replace(/\{(\w+)\}/g, (/** @type {string} */ whole, /** @type {string} */ name) => values[name] ?? whole);
}

/** @param {string} key @returns {boolean} Whether the current language has this text. */
export const isTranslated = (key) => key in chosen;

/** @param {string} text What the server wrote, in English. @returns {string} The same if there is no translation. */
export function say(text) {
  if (text in chosen) return chosen[text];
  const numbers = text.match(NUMBER) ?? [];
  const sentence = chosen[text.replace(NUMBER, '#')];
  return sentence ? sentence.replace(/#/g, () => numbers.shift() ?? '') : text;
}

/** @param {number} value @returns {string} */
export const number = (value) => value.toLocaleString(current);

/** @param {() => void} listener Called by applyLanguage(). */
export const onLanguage = (listener) => listeners.push(listener);

/** @param {Texts[]} texts More texts, which are there when the promise is. */
export async function speak(...texts) {
  sources.push(...texts);
  for (const { en } of texts) Object.assign(english, en);
  if (current !== 'en') await read();
}

/** @param {string} file A table in JSON, next to this module. @returns {() => Promise<Table>} */
export const readTable = (file) => async () => (await fetch(new URL(file, import.meta.url))).json();

/** Load the tables of the current language. Without them, for example because the server has stopped, it is English. */
async function read() {
  const wanted = current;
  const load = async (/** @type {Texts} */ texts) => (wanted === 'en' ? texts.en : texts.zh());
  const found = await Promise.allSettled(sources.map(load));
  const tables = found.map((one) => (one.status === 'fulfilled' ? one.value : {}));
  if (wanted === current) chosen = Object.assign(Object.create(null), ...tables);
}

/** @param {HTMLElement} button Goes through the languages; shows the name of the next one. */
export function offerLanguages(button) {
  const names = Object.keys(NAMES);
  const next = () => names[(names.indexOf(current) + 1) % names.length];
  button.addEventListener('click', async () => {
    current = next();
    remember('language', current);
    await read();
    applyLanguage();
  });
  onLanguage(() => {
    button.lang = next();
    button.textContent = NAMES[next()];
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
