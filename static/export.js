/**
 * Save the message list as a file: as text to read, or as JSON lines for programs.
 *
 * Rule 1: what the filter shows, as it was when the user asked; the page works on while the file is written.
 */

import { toBase64, toHex } from './bytes.js';
import { byId } from './dom.js';
import { number, onLanguage, t } from './i18n.js';
import { saveFile } from './save.js';

const SLICE_MS = 8;
const ARROWS = { sent: '↑', received: '↓', event: '•' };

/** @typedef {import('./messages.js').Message} Message */

/** @param {Message} message @returns {string} One line of JSON. */
export function toJsonLine({ at, direction, data, details, channel }) {
  const content = direction === 'event' ? { title: data, details: details || undefined }
    : typeof data === 'string' ? { text: data } : { base64: toBase64(new Uint8Array(data)) };
  return `${JSON.stringify({ time: new Date(at).toISOString(), direction, channel, ...content })}\n`;
}

/** @param {Message} message @returns {string} The time, an arrow, and the payload; bytes are in hexadecimal. */
export function toTextLine({ at, direction, data, details, channel }) {
  const payload = typeof data === 'string' ? data : `<${toHex(new Uint8Array(data))}>`;
  const text = details ? `${payload}\n${details}` : payload;
  const from = channel === undefined ? '' : ` #${channel}`;
  // Further lines are indented, so that a line that begins with a time begins a message.
  return `${new Date(at).toISOString()} ${ARROWS[direction]}${from} ${text.replaceAll('\n', '\n    ')}\n`;
}

const FORMATS = {
  text: { write: toTextLine, extension: 'txt', type: 'text/plain' },
  json: { write: toJsonLine, extension: 'jsonl', type: 'application/jsonl' },
};

const pause = () => new Promise((resolve) => setTimeout(resolve));

/**
 * @param {Message[]} messages
 * @param {keyof typeof FORMATS} format
 * @returns {Promise<Blob>}
 */
async function writeAll(messages, format) {
  const { write, type } = FORMATS[format];
  const parts = [];
  /** @type {string[]} */
  let lines = [];
  let deadline = performance.now() + SLICE_MS;
  for (const message of messages) {
    lines.push(write(message));
    if (performance.now() < deadline) continue;
    // The browser keeps a blob out of the memory of the page.
    parts.push(new Blob(lines));
    lines = [];
    await pause();
    deadline = performance.now() + SLICE_MS;
  }
  return new Blob([...parts, ...lines], { type });
}

/** @param {import('./filter.js').Filtered} filtered The list. */
export function offerExport(filtered) {
  const menu = byId('export');
  const buttons = /** @type {NodeListOf<HTMLButtonElement>} */ (menu.querySelectorAll('[data-format]'));
  const show = () => {
    const values = { count: filtered.length, shown: number(filtered.length) };
    byId('export-count').textContent = t(filtered.isFiltering ? 'exportFiltered' : 'exportAll', values);
    for (const button of buttons) button.disabled = filtered.length === 0;
  };
  menu.addEventListener('beforetoggle', show);
  onLanguage(show);
  for (const button of buttons) {
    button.addEventListener('click', async () => {
      const format = /** @type {keyof typeof FORMATS} */ (button.dataset.format);
      const time = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
      menu.hidePopover();
      while (filtered.advance(SLICE_MS)) await pause();
      saveFile(await writeAll(filtered.all(), format), `messages-${time}.${FORMATS[format].extension}`);
    });
  }
}
