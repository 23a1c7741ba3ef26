/** The views that only show something: channels, refusals, limits, processes. */

import { element, foreign } from './dom.js';
import { bytes, count, duration, milliseconds, percent, rate, time } from './format.js';
import { slice } from './frame.js';
import { showTable } from './table.js';
import { t } from '../i18n.js';

const MAX_CHANNELS = 10_000;

/** @typedef {import('./frame.js').View} View */

/** @param {(channel: string) => void} showConnections @returns {View} */
export const channelsView = (showConnections) => ({
  name: 'channels',
  search: 'searchChannels',
  empty: 'noChannels',
  async load({ api, text, cursor }) {
    const pattern = !text ? '*' : text.includes('*') ? text : `*${text}*`;
    const { channels } = await api.call('channels', { pattern: pattern.slice(0, 255) });
    const rows = Object.entries(channels).map(([name, about]) => ({ name, subscribers: about.num_clients }));
    rows.sort((a, b) => b.subscribers - a.subscribers || (a.name < b.name ? -1 : 1));
    return { ...slice(rows, cursor), note: rows.length >= MAX_CHANNELS ? t('someChannels', { n: count(MAX_CHANNELS) }) : '' };
  },
  show: (where, rows) => showTable(where, t('channels'), [
    { name: 'channel', kind: 'wide', cell: ({ name }) => foreign(name, 'strong') },
    { name: 'subscribers', kind: 'number', cell: ({ subscribers }) => count(subscribers) },
    {
      name: 'action', kind: 'action', cell: ({ name }) => element('button', {
        type: 'button', textContent: t('showSubscribers'), data: { key: name },
        ariaLabel: t('showSubscribersOf', { channel: name }), onclick: () => showConnections(name),
      }),
    },
  ], rows),
});

/** @type {View} */
export const refusalsView = {
  name: 'refusals',
  search: 'searchRefusals',
  empty: 'noRefusals',
  async load({ api, text, cursor }) {
    const { rejects } = await api.call('rejects');
    const wanted = text.toLowerCase();
    const fits = (/** @type {any} */ one) => [one.peer, one.path, one.cause, one.reason, one.status, ...one.options]
      .some((value) => String(value ?? '').toLowerCase().includes(wanted));
    return slice(rejects.filter(fits), cursor);
  },
  show: (where, rows, samples) => showTable(where, t('refusals'), [
    { name: 'last', kind: 'whole', cell: (row) => time(row.time) },
    {
      name: 'times', kind: 'number', cell: (row) => element('span', {
        textContent: count(row.count), title: t('timesSince', { n: count(row.count), time: time(row.first_time) }),
      }),
    },
    { name: 'status', kind: 'number', cell: ({ status }) => (status === null ? t('dropped') : String(status)) },
    { name: 'path', kind: 'mono', cell: ({ path }) => (path === null ? t('unreadable') : foreign(path)) },
    { name: 'address', kind: 'mono whole', cell: ({ peer }) => foreign(peer) },
    { name: 'reason', kind: 'widest', cell: ({ cause, reason }) => element('div', {}, element('span', { className: 'tag', textContent: cause }), ' ', foreign(reason)) },
    ...(samples.nodes.length > 1
      ? [{ name: 'process', cell: (/** @type {any} */ row) => nameOf(samples.nodes.find(({ uid }) => uid === row.node)) || row.node }]
      : []),
  ], rows),
};

/** @type {View} */
export const limitsView = {
  name: 'limits',
  empty: 'noLimits',
  isCounted: true,
  async load({ samples }) {
    const [limits, causes] = [samples.counters('limit_hits_total'), samples.counters('refusals_total')];
    return { rows: limits.length + causes.length ? [{ limits, causes }] : [], total: limits.length + causes.length };
  },
  show(where, [{ limits, causes }]) {
    const parts = [['limitsTitle', 'limit', limits, (/** @type {string} */ name) => `--${name.replaceAll('_', '-')}`],
      ['causesTitle', 'cause', causes, (/** @type {string} */ name) => name]];
    const blocks = parts.map(([title, name, rows, show]) => {
      const body = element('div');
      if (rows.length) {
        showTable(body, t(title), [
          { name, kind: 'mono', cell: (row) => show(row.name) },
          { name: 'sinceStart', kind: 'number', cell: (row) => count(row.total) },
          { name: 'lately', kind: 'number', cell: (row) => (row.lately ? `+${count(row.lately)}` : '–') },
        ], rows);
      } else body.append(element('p', { className: 'empty', textContent: t(name === 'limit' ? 'noLimits' : 'noRefusals') }));
      return element('div', { className: 'half' }, element('h3', { textContent: t(title) }), body);
    });
    where.replaceChildren(element('div', { className: 'halves' }, ...blocks));
  },
};

/** @type {View} */
export const processesView = {
  name: 'processes',
  empty: 'noSamples',
  isCounted: true,
  async load({ samples }) {
    const rows = [...samples.nodes].sort((a, b) => (a.worker ?? 0) - (b.worker ?? 0) || (a.name < b.name ? -1 : 1));
    return { rows, total: rows.length };
  },
  show(where, rows, samples) {
    /** @param {string} name @param {(value: number) => string} format */
    const number = (name, format) => ({
      name, kind: 'number', cell: (/** @type {any} */ node) => show(samples.ofNode(node.uid)[name], format),
    });
    showTable(where, t('processes'), [
      { name: 'process', cell: (node) => element('div', {}, element('span', { className: 'strong', textContent: nameOf(node) }), ' ', element('span', { className: 'quiet mono', textContent: node.worker ? node.name : '' })) },
      { name: 'uptime', kind: 'number', cell: (node) => duration(node.uptime) },
      number('connections', count),
      { name: 'channels', kind: 'number', cell: (node) => count(node.num_channels) },
      { name: 'subscriptions', kind: 'number', cell: (node) => count(node.num_subs) },
      {
        name: 'messageRates', kind: 'number', cell: (node) => {
          const values = samples.ofNode(node.uid);
          return `${show(values.in, rate)}, ${show(values.out, rate)}`;
        },
      },
      number('lag', milliseconds),
      number('cpu', percent),
      number('memory', bytes),
      { name: 'redis', cell: (node) => redisOf(node) },
      { name: 'version', cell: (node) => node.version },
    ], rows);
  },
};

/** @param {number | null | undefined} value @param {(value: number) => string} format */
const show = (value, format) => (value === null || value === undefined ? '–' : format(value));

/** @param {import('./samples.js').Node | undefined} node */
const nameOf = (node) => (node?.worker ? t('worker', { n: node.worker }) : node?.name ?? '');

/** @param {import('./samples.js').Node} node */
export function redisOf(node) {
  const up = node.metrics.items.redis_subscriber_up;
  return up === undefined ? t('redisNone') : t(up ? 'redisUp' : 'redisDown');
}
