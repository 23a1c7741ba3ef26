/** A table that is shown again every few seconds without losing the focus. On a phone, CSS makes its rows cards. */

import { element } from './dom.js';
import { t } from '../i18n.js';

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} name The name of its text.
 * @property {(row: Row) => Node | string} cell
 * @property {string} [kind] Its class.
 */

/**
 * @template Row
 * @param {HTMLElement} where Its content is replaced.
 * @param {string} caption
 * @param {Column<Row>[]} columns
 * @param {Row[]} rows
 */
export function showTable(where, caption, columns, rows) {
  const head = element('tr', {}, ...columns.map(({ name, kind = '' }) => element('th', { scope: 'col', className: kind, textContent: t(name) })));
  const body = rows.map((row) => element('tr', {}, ...columns.map(({ name, cell, kind = '' }) => (
    element('td', { className: kind, data: { label: t(name) } }, cell(row))))));
  const table = element('table', {},
    element('caption', { className: 'visually-hidden', textContent: caption }),
    element('thead', {}, head), element('tbody', {}, ...body));
  // Tables whose display is changed by CSS lose their roles.
  for (const [selector, role] of [['tr', 'row'], ['th', 'columnheader'], ['td', 'cell'], ['thead, tbody', 'rowgroup']]) {
    for (const one of table.querySelectorAll(selector)) one.setAttribute('role', role);
  }
  table.setAttribute('role', 'table');
  const focused = focusOf(where);
  const opened = new Set([...where.querySelectorAll('details[open]')].map((one) => /** @type {HTMLElement} */ (one).dataset.key));
  where.replaceChildren(table);
  for (const one of where.querySelectorAll('details')) one.open = opened.has(one.dataset.key);
  if (focused) find(where, focused)?.focus({ preventScroll: true });
}

/** @param {HTMLElement} where @returns {string | undefined} The key of the control that has the focus. */
function focusOf(where) {
  const focused = document.activeElement;
  return focused instanceof HTMLElement && where.contains(focused) ? focused.dataset.key : undefined;
}

/** @param {HTMLElement} where @param {string} key */
function find(where, key) {
  return [.../** @type {NodeListOf<HTMLElement>} */ (where.querySelectorAll('[data-key]'))].find((one) => one.dataset.key === key);
}

/** @param {HTMLElement} where @returns {boolean} Whether the user has selected text there, which showing it again would undo. */
export function hasSelection(where) {
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && where.contains(selection.anchorNode));
}
