/** The dialog that asks before anything is changed. */

import { byId, element, foreign } from './dom.js';
import { t } from '../i18n.js';

const dialog = /** @type {HTMLDialogElement} */ (byId('confirm'));
const proceed = /** @type {HTMLButtonElement} */ (byId('proceed'));

/** @type {() => Promise<string>} */
let run = async () => '';

/**
 * @param {string} title
 * @param {string} action What the button says.
 * @param {Node[]} content
 * @param {() => Promise<string>} perform Does it; returns what to tell the user.
 */
export function confirm(title, action, content, perform) {
  byId('confirm-title').textContent = title;
  byId('confirm-body').replaceChildren(...content);
  byId('confirm-problem').textContent = '';
  proceed.textContent = action;
  proceed.disabled = false;
  run = perform;
  dialog.showModal();
  // Enter alone must not change anything.
  byId('cancel').focus();
}

export const isAsking = () => dialog.open;

export const stopAsking = () => dialog.close();

byId('cancel').addEventListener('click', () => dialog.close());
byId('confirm-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  proceed.disabled = true;
  try {
    tell(await run());
    dialog.close();
  } catch (error) {
    byId('confirm-problem').textContent = /** @type {Error} */ (error).message || t('unreachableTitle');
    proceed.disabled = false;
  }
});

/** @type {ReturnType<typeof setTimeout> | undefined} */
let fading;

/** @param {string} text Shown for a few seconds. */
export function tell(text) {
  const toast = byId('toast');
  toast.textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { toast.textContent = ''; }, 5000);
}

/**
 * A sentence with names that clients have chosen.
 *
 * @param {string} name The name of the text.
 * @param {Record<string, string>} names
 */
export function sentence(name, names) {
  const parts = t(name, Object.fromEntries(Object.keys(names).map((key) => [key, `\u0000${key}\u0000`]))).split('\u0000');
  return element('p', {}, ...parts.map((part, index) => (index % 2 ? foreign(names[part], 'name') : part)));
}

/**
 * A group of choices, the first of which is chosen.
 *
 * @param {string} name
 * @param {string} title
 * @param {{value: string, label: Node}[]} choices
 */
export function choose(name, title, choices) {
  return element('fieldset', {}, element('legend', { textContent: title }), ...choices.map(({ value, label }, index) => (
    element('label', { className: 'choice' },
      element('input', { type: 'radio', name, value, checked: index === 0 }), label))));
}

/** @param {string} name @returns {string} */
export const chosen = (name) => String(new FormData(/** @type {HTMLFormElement} */ (byId('confirm-form'))).get(name) ?? '');
