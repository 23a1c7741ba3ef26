/**
 * Bytes as offset, hexadecimal digits and characters, of any length: only the lines in view exist.
 */

import { toHex } from './bytes.js';
import { element } from './dom.js';
import { t } from './i18n.js';
import { VirtualRows } from './virtual.js';

const WIDE = 16;
const NARROW = 8;
const NARROW_PX = 600;

/** @param {Uint8Array} bytes @returns {HTMLElement} Shows itself once it is in the document. */
export function hexView(bytes) {
  const view = element('div', { className: 'hex', tabIndex: 0, role: 'region', ariaLabel: t('bytesTitle') },
    element('div', { className: 'list-height' }, element('div', { className: 'list-rows' })));
  let perLine = WIDE;
  const rows = new VirtualRows(view, () => element('div', { className: 'hex-line' }), (row, index) => {
    row.textContent = hexLine(bytes, index * perLine, perLine);
  });
  const draw = () => rows.render(Math.ceil(bytes.length / perLine), false);
  view.addEventListener('scroll', draw, { passive: true });
  new ResizeObserver(() => {
    perLine = view.clientWidth < NARROW_PX ? NARROW : WIDE;
    rows.rowHeight = 0;
    draw();
  }).observe(view);
  return view;
}

/** @param {Uint8Array} bytes @param {number} offset @param {number} perLine @returns {string} */
export function hexLine(bytes, offset, perLine) {
  const part = bytes.subarray(offset, offset + perLine);
  const characters = Array.from(part, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
  return `${offset.toString(16).padStart(6, '0')}  ${toHex(part).padEnd(perLine * 3 - 1)}  ${characters}`;
}
