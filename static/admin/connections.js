/** The view of the connections, and what an operator can do to them. */

import { chosen, choose, confirm, sentence } from './confirm.js';
import { element, foreign } from './dom.js';
import { duration } from './format.js';
import { PAGE_SIZE } from './frame.js';
import { showTable } from './table.js';
import { t } from '../i18n.js';

/** @typedef {import('./api.js').API} API */
/** @typedef {{client: string, user: string, transport: string, protocol: string, address: string, connected: number,
 *   channels: string[]}} Row */

const CHANNELS_SHOWN = 3;
/** The code that tells Centrifuge clients not to connect again, and one after which they may. */
const CODES = { stay: { code: 3503, reason: 'force disconnect' }, return: { code: 4000, reason: 'disconnected by the operator' } };

/** @param {Row} row */
const who = (row) => row.user || row.client;

/** @param {() => API | null} findAPI @param {() => void} onChanged @returns {import('./frame.js').View} */
export function connectionsView(findAPI, onChanged) {
  /** @param {string} method @param {object} parameters @returns {Promise<number>} */
  const change = async (method, parameters) => {
    const { clients } = /** @type {any} */ (await findAPI()?.call(method, parameters));
    onChanged();
    return clients;
  };

  /** @param {Row} row */
  const disconnect = (row) => confirm(t('disconnectTitle'), t('disconnect'), [
    choose('whom', t('disconnectWhom'), [
      { value: 'client', label: sentence('onlyThis', { client: row.client }) },
      ...(row.user ? [{ value: 'user', label: sentence('allOfUser', { user: row.user }) }] : []),
    ]),
    choose('then', t('afterwards'), [
      { value: 'stay', label: element('p', { textContent: t('stayAway') }) },
      { value: 'return', label: element('p', { textContent: t('mayReturn') }) },
    ]),
    element('p', { className: 'quiet small', textContent: t('rawReturn') }),
  ], async () => {
    const whom = chosen('whom') === 'user' ? { user: row.user } : { client: row.client };
    const code = chosen('then') === 'return' ? CODES.return : CODES.stay;
    const n = await change('disconnect', { ...whom, disconnect: code });
    return n ? t('disconnected', { n }) : t('nothingDone');
  });

  /** @param {Row} row @param {string} channel */
  const unsubscribe = (row, channel) => confirm(t('unsubscribeTitle'), t('unsubscribe'), [
    sentence('unsubscribeText', { who: who(row), channel }),
    ...(isRaw(row) ? [element('p', { textContent: t('unsubscribeRaw') })] : []),
  ], async () => {
    const n = await change('unsubscribe', { client: row.client, channel });
    return n ? t('unsubscribed', { n }) : t('nothingDone');
  });

  /** @param {Row} row @param {string} channel */
  const chip = (row, channel) => element('span', { className: 'chip' }, foreign(channel), element('button', {
    type: 'button', textContent: '×', data: { key: `${row.client} ${channel}` },
    title: t('unsubscribe'), ariaLabel: t('unsubscribeName', { who: who(row), channel }),
    onclick: () => unsubscribe(row, channel),
  }));

  /** @param {Row} row */
  const channels = (row) => {
    const chips = row.channels.map((channel) => chip(row, channel));
    const hidden = chips.slice(CHANNELS_SHOWN);
    return element('div', { className: 'chips' }, ...chips.slice(0, CHANNELS_SHOWN), ...(hidden.length ? [
      element('details', { data: { key: `more ${row.client}` } },
        element('summary', { textContent: t('more', { n: hidden.length }), data: { key: `summary ${row.client}` } }),
        element('div', { className: 'chips' }, ...hidden)),
    ] : []));
  };

  return {
    name: 'connections',
    search: 'searchConnections',
    empty: 'noConnections',
    emptyNote: 'noConnectionsNote',
    async load({ api, text, filter, cursor }) {
      const pattern = filter ? { pattern: filter } : {};
      const found = await api.call('connections', { limit: PAGE_SIZE, search: text, after: cursor ?? '', ...pattern });
      const rows = Object.entries(found.connections).map(([client, about]) => (
        { client, ...about, channels: Object.keys(about.state.channels).sort() }));
      return { rows, total: found.total, ...(found.after ? { next: found.after } : {}) };
    },
    show: (where, rows) => showTable(where, t('connections'), [
      { name: 'user', cell: (row) => (row.user ? foreign(row.user, 'strong') : element('span', { className: 'quiet', textContent: t('anonymous') })) },
      { name: 'client', kind: 'mono whole', cell: (row) => row.client },
      { name: 'address', kind: 'mono whole', cell: (row) => foreign(row.address ?? '') },
      { name: 'transport', kind: 'whole', cell: (row) => [row.transport, row.protocol].filter(Boolean).join(' · ') },
      { name: 'open', kind: 'number', cell: (row) => duration(row.connected) },
      { name: 'channels', kind: 'wide', cell: channels },
      {
        name: 'action', kind: 'action', cell: (row) => element('button', {
          type: 'button', className: 'quiet-danger', textContent: t('disconnect'), data: { key: row.client },
          ariaLabel: t('disconnectName', { who: who(row) }), onclick: () => disconnect(row),
        }),
      },
    ], rows),
  };
}

/** @param {Row} row @returns {boolean} Whether the URL of the connection determines its channels. */
const isRaw = (row) => !row.protocol || row.protocol === 'raw';
