/**
 * What the server saw on the wire, for a message or an event: frames, handshakes, and how the connection ended.
 */

import { exactSize, formatSize } from './bytes.js';
import { element } from './dom.js';
import { t } from './i18n.js';

const OPCODES = { 0: 'continuation', 1: 'text', 2: 'binary', 8: 'close', 9: 'ping', 10: 'pong' };

/** @typedef {import('./tap.js').WireEvent} WireEvent */

/** @param {WireEvent} event @returns {string} Such as: ping from the server, 4 bytes. */
export function describeControl(event) {
  const who = t(event.direction === 'in' ? 'wire.client' : 'wire.server');
  if (event.type === 'gap') return t('wire.gap', { count: event.missed });
  if (event.type === 'tcp') return t(`wire.tcp.${event.action}`);
  if (event.type === 'bytes') return t('wire.bytes', { size: exactSize(event.length) });
  const parts = [t('wire.control', { name: nameOf(event.opcode), who, size: exactSize(event.length ?? event.wire_length) })];
  if (event.code) parts.push(event.reason ? `${event.code} “${event.reason}”` : String(event.code));
  if (event.round_trip !== undefined) parts.push(t('wire.roundTrip', { time: milliseconds(event.round_trip) }));
  if (event.type === 'cut') parts.push(t('wire.cut'));
  return parts.join(' · ');
}

/** @param {WireEvent[]} events @returns {HTMLElement} */
export const wireView = (events) => element('div', { className: 'wire' }, ...events.map(show));

/** @param {WireEvent} event */
function show(event) {
  if (event.type === 'handshake') return showHandshake(event);
  if (event.type === 'end') return showFacts(t('wire.end'), endFacts(event));
  if (event.opcode === undefined) return showFacts(describeControl(event), [[t('time'), seconds(event.t)]]);
  const title = t('wire.frame', { name: nameOf(event.opcode), who: t(event.direction === 'in' ? 'wire.client' : 'wire.server') });
  return showFacts(title, frameFacts(event));
}

/** @param {WireEvent} event */
function showHandshake({ direction, line, headers = [], t: at }) {
  const text = [line, ...headers.map((/** @type {[string, string]} */ [name, value]) => `${name}: ${value}`)].join('\n');
  return element('section', {}, element('h3', {}, `${t(direction === 'in' ? 'wire.request' : 'wire.response')} `,
    element('span', { className: 'hint' }, seconds(at))), element('pre', {}, text));
}

/** @param {string} title @param {(string | false)[][]} facts */
function showFacts(title, facts) {
  const rows = facts.filter(([, value]) => value).flatMap(([name, value]) => [element('dt', {}, String(name)), element('dd', {}, String(value))]);
  return element('section', {}, element('h3', {}, title), element('dl', { className: 'facts' }, ...rows));
}

/** @param {WireEvent} event @returns {(string | false)[][]} */
function frameFacts(event) {
  const { fin, rsv, masked, mask, length, wire_length: onWire } = event;
  const flags = [fin && 'FIN', rsv & 4 && 'RSV1', rsv & 2 && 'RSV2', rsv & 1 && 'RSV3'].filter(Boolean).join(' ');
  const saved = rsv & 4 && length ? t('wire.compressed', { size: formatSize(length) }) : '';
  return [
    [t('wire.flags'), flags || t('none')],
    [t('wire.mask'), masked ? mask : t('none')],
    [t('wire.payload'), length === null ? t('wire.unknown') : exactSize(length)],
    [t('wire.onWire'), [exactSize(onWire), saved].filter(Boolean).join(', ')],
    [t('closeCode'), event.code ? String(event.code) : false],
    [t('closeReason'), event.reason ?? false],
    [t('time'), seconds(event.t)],
    [t('wire.took'), event.seconds !== undefined && milliseconds(event.seconds)],
    [t('wire.roundTripName'), event.round_trip !== undefined && milliseconds(event.round_trip)],
  ];
}

/** @param {WireEvent} event @returns {(string | false)[][]} */
function endFacts(event) {
  return [
    [t('wire.closedBy'), event.closed_by && t(`wire.${event.closed_by}`)],
    [t('closeCode'), event.code && String(event.code)],
    [t('closeReason'), event.reason ?? false],
    [t('wire.closeTook'), typeof event.close_seconds === 'number' && milliseconds(event.close_seconds)],
    [t('wire.droppedBy'), event.dropped_by && t(`wire.${event.dropped_by}`)],
    [t('wire.error'), event.error ?? false],
    [t('time'), seconds(event.t)],
  ];
}

/** @param {number} opcode */
const nameOf = (opcode) => OPCODES[/** @type {keyof typeof OPCODES} */ (opcode)] ?? `opcode ${opcode}`;

/** @param {number} value */
const milliseconds = (value) => t('milliseconds', { value: (value * 1000).toFixed(value < 0.1 ? 2 : 0) });

/** @param {number} at */
const seconds = (at) => t('wire.since', { seconds: at.toFixed(6) });
