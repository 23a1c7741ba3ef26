/**
 * One row of the message list: what it shows of a record, on one line.
 */

import { formatSize, previewBytes, sizeOf } from './bytes.js';
import { element } from './dom.js';
import { t } from './i18n.js';

/** @typedef {import('./messages.js').Message} Message */

const PREVIEW_CHARACTERS = 400;
const ARROWS = { sent: '↑', received: '↓', event: '•' };

let rows = 0;

/** @returns {HTMLElement} An empty row; fillRow() shows a record in it. */
export function makeRow() {
  rows += 1;
  const row = element('div', { id: `row-${rows}`, className: 'message', role: 'option' });
  const time = element('time');
  const payload = element('span', { className: 'payload', dir: 'auto' });
  const arrow = element('span', { className: 'arrow', aria: { hidden: true } });
  const direction = element('span', { className: 'visually-hidden' });
  row.append(arrow, direction, time, element('span', { className: 'tag' }), payload, element('span', { className: 'size' }));
  return row;
}

/** @param {HTMLElement} row @param {Message} message */
export function fillRow(row, message) {
  const { data, direction, at, channel } = message;
  const [arrow, spoken, time, tag, payload, size] = row.children;
  const binary = typeof data !== 'string';
  row.className = `message ${direction} ${message.mood ?? ''} ${binary ? 'binary' : ''}`;
  arrow.textContent = message.mood === 'bad' ? '!' : ARROWS[direction];
  spoken.textContent = t(direction);
  time.textContent = clock(new Date(at));
  tag.textContent = channel ? `# ${channel}` : binary ? t('binaryTag') : '';
  payload.textContent = binary ? previewBytes(data) : previewText(data, message.details);
  size.textContent = direction === 'event' ? '' : formatSize(sizeOf(data));
}

/** @param {string} text @param {string} [details] */
function previewText(text, details) {
  if (!text) return t('emptyMessage');
  const shown = text.length > PREVIEW_CHARACTERS ? text.slice(0, PREVIEW_CHARACTERS) : text;
  const line = details ? `${shown} — ${details.split('\n', 1)[0]}` : shown;
  return line.replace(/\s*\n\s*/g, ' ↵ ');
}

/**
 * @param {Date} time
 * @returns {string} Local time, in the same form in every locale, so that logs can be compared.
 */
export function clock(time) {
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return `${parts.join(':')}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}
