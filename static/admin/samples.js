/**
 * What the plots show: the answers of the API method `info`, as amounts and rates.
 *
 * Rule 1: no document and no request; the time of an answer is an argument.
 */

/** @typedef {{uid: string, name: string, version: string, uptime: number, worker?: number, num_clients: number,
 *   num_users: number, num_channels: number, num_subs: number, metrics: {items: Record<string, number>}}} Node */
/** @typedef {Record<string, number | null>} Sample */

export const WINDOW_MS = 5 * 60 * 1000;

/** @param {Node} node @param {string} name */
const item = (node, name) => node.metrics.items[name] ?? 0;

/** The answers of the last minutes. */
export class Samples {
  constructor() {
    /** @type {{at: number, nodes: Map<string, Node>}[]} */
    this.answers = [];
    /** @type {{at: number, values: Sample}[]} */
    this.points = [];
  }

  /**
   * @param {Node[]} nodes
   * @param {number} at Time in milliseconds, from a clock that never jumps.
   */
  add(nodes, at) {
    const before = this.answers.at(-1);
    const answer = { at, nodes: new Map(nodes.map((node) => [node.uid, node])) };
    this.answers.push(answer);
    this.points.push({ at, values: sample(answer, before) });
    const oldest = at - WINDOW_MS;
    while (this.answers[0].at < oldest) this.answers.shift();
    while (this.points[0].at < oldest) this.points.shift();
  }

  /** Begin a gap: the server did not answer. @param {number} at */
  gap(at) {
    const last = this.points.at(-1);
    if (last && last.values.connections !== null) this.points.push({ at, values: NOTHING });
  }

  get nodes() {
    return [...(this.answers.at(-1)?.nodes.values() ?? [])];
  }

  /** @returns {Sample} */
  get latest() {
    return this.points.at(-1)?.values ?? NOTHING;
  }

  /**
   * What one process does now.
   *
   * @param {string} uid
   * @returns {Sample}
   */
  ofNode(uid) {
    const [before, now] = this.answers.slice(-2);
    if (!now) return NOTHING;
    /** @param {typeof now} answer */
    const only = ({ at, nodes }) => ({ at, nodes: new Map([...nodes].filter(([key]) => key === uid)) });
    return sample(only(now), only(before));
  }

  /**
   * Counters of one metric, by the value of its label: their sums over all processes, now and how much they grew.
   *
   * @param {string} metric
   * @returns {{name: string, total: number, lately: number}[]} The largest first.
   */
  counters(metric) {
    const oldest = this.answers[0];
    /** @type {Map<string, {total: number, lately: number}>} */
    const found = new Map();
    for (const node of this.nodes) {
      for (const [key, value] of Object.entries(node.metrics.items)) {
        const name = labelOf(key, metric);
        if (name === null) continue;
        const sum = found.get(name) ?? { total: 0, lately: 0 };
        // A process that is new since then has counted all of it since then.
        const earlier = oldest.nodes.get(node.uid);
        sum.total += value;
        sum.lately += value - (earlier ? item(earlier, key) : 0);
        found.set(name, sum);
      }
    }
    return [...found].map(([name, sums]) => ({ name, ...sums })).sort((a, b) => b.total - a.total);
  }

  /** @param {string} name @returns {number} The sum of a metric over all processes. */
  sum(name) {
    return this.nodes.reduce((sum, node) => sum + item(node, name), 0);
  }
}

/** @type {Sample} */
const NOTHING = Object.fromEntries(
  ['connections', 'in', 'out', 'bytesIn', 'bytesOut', 'lag', 'cpu', 'memory'].map((name) => [name, null]),
);

/**
 * @param {{at: number, nodes: Map<string, Node>}} now
 * @param {{at: number, nodes: Map<string, Node>} | undefined} before
 * @returns {Sample}
 */
function sample(now, before) {
  const nodes = [...now.nodes.values()];
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  /** @param {Node} node @param {string} name */
  const growth = (node, name) => {
    const earlier = before?.nodes.get(node.uid);
    return earlier ? Math.max(0, item(node, name) - item(earlier, name)) : 0;
  };
  /** @param {string} name */
  const rate = (name) => (seconds ? nodes.reduce((sum, node) => sum + growth(node, name), 0) / seconds : null);
  const lags = nodes.map((node) => {
    const times = growth(node, 'event_loop_lag_seconds_count');
    return times ? growth(node, 'event_loop_lag_seconds_sum') / times : null;
  }).filter((lag) => lag !== null);
  const memory = nodes.reduce((sum, node) => sum + item(node, 'process_resident_memory_bytes'), 0);
  return {
    connections: nodes.reduce((sum, node) => sum + item(node, 'connections'), 0),
    in: rate('messages_received_total'),
    out: rate('messages_sent_total'),
    bytesIn: rate('received_bytes_total'),
    bytesOut: rate('sent_bytes_total'),
    // The slowest process decides what its clients notice.
    lag: lags.length ? Math.max(...lags) : null,
    cpu: rate('process_cpu_seconds_total'),
    memory: memory || null,
  };
}

/**
 * @param {string} key Such as `refusals_total{cause="origin"}`.
 * @param {string} metric
 * @returns {string | null} The value of its label; null if it is another metric.
 */
function labelOf(key, metric) {
  return key.startsWith(`${metric}{`) ? key.slice(key.indexOf('"') + 1, -2) : null;
}
