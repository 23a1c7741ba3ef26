/** The upper part of the page: the facts and the plots. */

import { byId, element } from './dom.js';
import { bytes, count, duration, milliseconds, percent, rate } from './format.js';
import { Plot } from './plot.js';
import { redisOf } from './views.js';
import { t } from '../i18n.js';

/** @typedef {import('./samples.js').Samples} Samples */

const PLOTS = [
  new Plot('connections', [{ name: 'connections' }], count, 10),
  new Plot('messages', [{ name: 'in', label: 'in' }, { name: 'out', label: 'out' }], rate, 10),
  new Plot('traffic', [{ name: 'bytesIn', label: 'in' }, { name: 'bytesOut', label: 'out' }], bytes, 1000),
  new Plot('lag', [{ name: 'lag' }], milliseconds, 0.01),
  new Plot('cpu', [{ name: 'cpu' }], percent, 0.1),
  new Plot('memory', [{ name: 'memory' }], bytes, 100_000_000),
];

byId('plots').append(...PLOTS.map(({ card }) => card));

/**
 * @param {Samples} samples
 * @param {number} now The time at the right edge of the plots.
 * @param {string} problem Why the server is not ready; empty if it is.
 */
export function showBoard(samples, now, problem) {
  for (const plot of PLOTS) plot.show(samples.points, now);
  byId('facts').replaceChildren(...facts(samples, problem).map(({ name, value, mood = '' }) => (
    element('div', { className: `fact ${mood}` },
      element('dt', { textContent: t(name) }), element('dd', { textContent: value })))));
}

/**
 * @param {Samples} samples
 * @param {string} problem
 * @returns {{name: string, value: string, mood?: string}[]}
 */
function facts(samples, problem) {
  const { nodes } = samples;
  /** @param {(node: import('./samples.js').Node) => number} read */
  const sum = (read) => nodes.reduce((total, node) => total + read(node), 0);
  const states = nodes.map(redisOf);
  const redis = states.find((state) => state === t('redisDown')) ?? states[0] ?? '–';
  const [used, limit] = [samples.sum('sockets'), samples.sum('max_sockets')];
  const reconnects = samples.sum('redis_reconnects_total');
  const versions = [...new Set(nodes.map(({ version }) => version))];
  return [
    { name: 'ready', value: t(problem ? 'no' : 'yes'), mood: problem ? 'bad' : 'good' },
    {
      name: 'redis',
      value: reconnects ? `${redis} (${t('reconnects', { n: reconnects })})` : redis,
      mood: redis === t('redisDown') ? 'bad' : redis === t('redisUp') ? 'good' : '',
    },
    { name: 'processes', value: count(nodes.length) },
    { name: 'sockets', value: t('ofLimit', { n: count(used), limit: count(limit) }), mood: used > 0.9 * limit ? 'warn' : '' },
    { name: 'users', value: count(sum((node) => node.num_users)) },
    { name: 'subscriptions', value: count(sum((node) => node.num_subs)) },
    { name: 'queued', value: bytes(samples.sum('send_queue_bytes')) },
    { name: 'uptime', value: nodes.length ? duration(Math.max(...nodes.map(({ uptime }) => uptime))) : '–' },
    { name: 'version', value: versions.join(', ') },
  ];
}
