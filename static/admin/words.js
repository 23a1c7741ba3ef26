/**
 * The texts of the page, in English and Chinese.
 *
 * A text with {name} takes values; a function takes them where the language has a plural. Elements with `data-t` show
 * the text of that name.
 */

/** @typedef {Record<string, any>} Values */
/** @typedef {Record<string, string | ((values: any) => string)>} Table */

const NAME = 'wsserver.language';

/** @param {number | string} n @param {string} one @param {string} [many] */
const plural = (n, one, many = `${one}s`) => `${n} ${String(n) === '1' ? one : many}`;

/** @type {Table} */
const en = {
  title: 'status',
  otherLanguage: '中文',
  signOut: 'Sign out',
  keyTitle: 'Status of this server',
  keyHelp: 'Connections, channels, refusals and limits, from the HTTP API. You need the API key of the server.',
  key: 'API key',
  keyNote: 'The key stays in this browser tab until you close the tab or sign out.',
  enter: 'Open',
  entering: 'Checking…',
  wrongKey: 'The server does not accept this key. It is the value of its option --api-key.',
  keyChanged: 'The server no longer accepts the key. Enter the current one.',
  offTitle: 'This server has no API key',
  offText: 'This page reads the HTTP API, which is off until the server has a key. Set one where you start the server, for example:',
  refusedTitle: 'The server refuses the HTTP API',
  unreachableTitle: 'The server does not answer',
  unreachableText: 'This page tries again every few seconds.',
  again: 'Try again',
  live: 'Live',
  lost: 'No answer',
  connecting: 'Connecting',
  lostSince: 'No answer from the server since {time}. What you see is as old as that. This page tries again every two seconds.',
  notReady: 'The server is not ready: {reason}',
  plots: 'Rates of the last five minutes',
  connections: 'Connections',
  messages: 'Messages per second',
  traffic: 'Payload per second',
  lag: 'Event loop lag',
  cpu: 'CPU',
  memory: 'Memory',
  in: 'in',
  out: 'out',
  ago: '{time} ago',
  now: 'now',
  noSamples: 'no figures',
  ready: 'Ready',
  yes: 'yes',
  no: 'no',
  redis: 'Redis',
  redisUp: 'connected',
  redisDown: 'unavailable',
  redisNone: 'not used',
  reconnects: ({ n }) => plural(n, 'reconnect'),
  processes: 'Processes',
  sockets: 'Sockets',
  ofLimit: '{n} / {limit}',
  users: 'Users',
  channels: 'Channels',
  subscriptions: 'Subscriptions',
  queued: 'Queued',
  version: 'Version',
  views: 'Views',
  refusals: 'Refusals',
  limits: 'Limits',
  pages: 'Pages',
  first: 'First',
  previous: 'Previous',
  next: 'Next',
  page: 'Page {n}',
  range: '{from}-{to} of {total}',
  loading: 'Loading…',
  searchConnections: 'User, client ID, address or channel',
  searchChannels: 'Part of a name, or a pattern such as chat:*',
  searchRefusals: 'Address, path, cause or reason',
  user: 'User',
  anonymous: 'anonymous',
  client: 'Client ID',
  address: 'Address',
  transport: 'Transport',
  open: 'Open for',
  channel: 'Channel',
  subscribers: 'Subscribers',
  showSubscribers: 'Show connections',
  showSubscribersOf: 'Show connections of {channel}',
  action: 'Action',
  more: '{n} more',
  noConnections: 'No client is connected to a channel at the moment.',
  noConnectionsNote: 'This list has the subscribers of /ws and /sse and the Centrifuge clients. Connections to other paths, such as /echo, only count in the plots.',
  noChannels: 'No channel has subscribers at the moment.',
  noRefusals: 'The server has refused no request since it started.',
  noLimits: 'No limit has taken effect since the processes started.',
  noMatch: 'Nothing matches “{text}”.',
  someChannels: 'The server lists at most {n} channels of each process. Search to find the others.',
  disconnect: 'Disconnect',
  disconnectName: 'Disconnect {who}',
  disconnectTitle: 'Disconnect?',
  disconnectWhom: 'The server closes:',
  onlyThis: 'Only this connection, {client}',
  allOfUser: 'All connections of the user {user}',
  afterwards: 'Afterwards:',
  stayAway: 'Centrifuge clients stay disconnected (code 3503)',
  mayReturn: 'Clients may connect again (code 4000)',
  rawReturn: 'What other clients do is up to them: a browser page may connect again in any case.',
  disconnected: ({ n }) => `${plural(n, 'connection')} closed.`,
  unsubscribe: 'Unsubscribe',
  unsubscribeName: 'Unsubscribe {who} from {channel}',
  unsubscribeTitle: 'Unsubscribe?',
  unsubscribeText: 'The server ends the subscription of {who} to the channel {channel}.',
  unsubscribeRaw: 'The URL of this connection determines its channels, so the server closes the connection (code 1008).',
  unsubscribed: ({ n }) => `${plural(n, 'subscription')} ended.`,
  nothingDone: 'The client had already gone.',
  cancel: 'Cancel',
  last: 'Last',
  times: 'Times',
  timesSince: ({ n, time }) => `${plural(n, 'time')} since ${time}`,
  status: 'Status',
  path: 'Path',
  cause: 'Cause',
  reason: 'Reason',
  options: 'Options',
  process: 'Process',
  dropped: 'closed by the client',
  unreadable: 'unreadable',
  limit: 'Limit',
  sinceStart: 'Since the start',
  lately: 'Last 5 minutes',
  limitsNote: 'How often a limit took effect, in all processes. The name is that of the option.',
  causesTitle: 'Refused requests by cause',
  limitsTitle: 'Limits that took effect',
  worker: 'Worker {n}',
  uptime: 'Uptime',
  messageRates: 'Messages/s in, out',
  daysHours: '{days} d {hours} h',
  hoursMinutes: '{hours} h {minutes} min',
  minutesSeconds: ({ minutes, seconds }) => `${minutes} min${seconds ? ` ${seconds} s` : ''}`,
  seconds: '{seconds} s',
};

/** @type {Table} */
const zh = {
  title: '状态',
  otherLanguage: 'English',
  signOut: '退出',
  keyTitle: '服务器状态',
  keyHelp: '通过 HTTP API 查看连接、频道、被拒绝的请求和限制。需要服务器的 API 密钥。',
  key: 'API 密钥',
  keyNote: '密钥只保存在当前标签页中，关闭标签页或退出后即被清除。',
  enter: '打开',
  entering: '正在检查…',
  wrongKey: '服务器不接受此密钥。请输入选项 --api-key 的值。',
  keyChanged: '服务器不再接受此密钥，请输入新的密钥。',
  offTitle: '此服务器没有 API 密钥',
  offText: '本页面读取 HTTP API；未设置密钥时该 API 是关闭的。请在启动服务器时设置，例如：',
  refusedTitle: '服务器拒绝访问 HTTP API',
  unreachableTitle: '服务器没有响应',
  unreachableText: '本页面每隔几秒会自动重试。',
  again: '重试',
  live: '实时',
  lost: '无响应',
  connecting: '正在连接',
  lostSince: '自 {time} 起服务器没有响应，当前显示的是当时的数据。本页面每两秒重试一次。',
  notReady: '服务器未就绪：{reason}',
  plots: '最近五分钟的速率',
  connections: '连接',
  messages: '每秒消息数',
  traffic: '每秒负载流量',
  lag: '事件循环延迟',
  cpu: 'CPU',
  memory: '内存',
  in: '入',
  out: '出',
  ago: '{time}前',
  now: '现在',
  noSamples: '暂无数据',
  ready: '就绪',
  yes: '是',
  no: '否',
  redis: 'Redis',
  redisUp: '已连接',
  redisDown: '不可用',
  redisNone: '未使用',
  reconnects: '重连 {n} 次',
  processes: '进程',
  sockets: '套接字',
  ofLimit: '{n} / {limit}',
  users: '用户',
  channels: '频道',
  subscriptions: '订阅',
  queued: '待发送',
  version: '版本',
  views: '视图',
  refusals: '拒绝',
  limits: '限制',
  pages: '分页',
  first: '首页',
  previous: '上一页',
  next: '下一页',
  page: '第 {n} 页',
  range: '第 {from}-{to} 项，共 {total} 项',
  loading: '正在加载…',
  searchConnections: '用户、客户端 ID、地址或频道',
  searchChannels: '名称的一部分，或 chat:* 这样的模式',
  searchRefusals: '地址、路径、类别或原因',
  user: '用户',
  anonymous: '匿名',
  client: '客户端 ID',
  address: '地址',
  transport: '传输方式',
  open: '已连接',
  channel: '频道',
  subscribers: '订阅者',
  showSubscribers: '查看连接',
  showSubscribersOf: '查看连接：{channel}',
  action: '操作',
  more: '还有 {n} 个',
  noConnections: '当前没有客户端连接到频道。',
  noConnectionsNote: '此列表包括 /ws 和 /sse 的订阅者以及 Centrifuge 客户端。其他路径（例如 /echo）的连接只计入图表。',
  noChannels: '当前没有频道有订阅者。',
  noRefusals: '服务器启动以来没有拒绝过请求。',
  noLimits: '进程启动以来没有限制生效。',
  noMatch: '没有与“{text}”匹配的内容。',
  someChannels: '每个进程最多列出 {n} 个频道，其余的请使用搜索。',
  disconnect: '断开',
  disconnectName: '断开 {who}',
  disconnectTitle: '断开连接？',
  disconnectWhom: '服务器将关闭：',
  onlyThis: '仅此连接 {client}',
  allOfUser: '用户 {user} 的所有连接',
  afterwards: '之后：',
  stayAway: 'Centrifuge 客户端保持断开（代码 3503）',
  mayReturn: '客户端可以重新连接（代码 4000）',
  rawReturn: '其他客户端自行决定：浏览器页面可能会重新连接。',
  disconnected: '已关闭 {n} 个连接。',
  unsubscribe: '取消订阅',
  unsubscribeName: '取消 {who} 对 {channel} 的订阅',
  unsubscribeTitle: '取消订阅？',
  unsubscribeText: '服务器将结束 {who} 对频道 {channel} 的订阅。',
  unsubscribeRaw: '此连接的频道由其 URL 决定，因此服务器会关闭该连接（代码 1008）。',
  unsubscribed: '已结束 {n} 个订阅。',
  nothingDone: '该客户端已经离开。',
  cancel: '取消',
  last: '最近一次',
  times: '次数',
  timesSince: '自 {time} 起 {n} 次',
  status: '状态码',
  path: '路径',
  cause: '类别',
  reason: '原因',
  options: '选项',
  process: '进程',
  dropped: '客户端已关闭',
  unreadable: '无法读取',
  limit: '限制',
  sinceStart: '启动以来',
  lately: '最近 5 分钟',
  limitsNote: '各限制在所有进程中生效的次数。名称即对应的选项名。',
  causesTitle: '按类别统计的被拒绝请求',
  limitsTitle: '已生效的限制',
  worker: '工作进程 {n}',
  uptime: '运行时间',
  messageRates: '消息/秒（入，出）',
  daysHours: '{days} 天 {hours} 小时',
  hoursMinutes: '{hours} 小时 {minutes} 分',
  minutesSeconds: ({ minutes, seconds }) => `${minutes} 分${seconds ? ` ${seconds} 秒` : '钟'}`,
  seconds: '{seconds} 秒',
};

/** @type {Record<string, Table>} */
export const TABLES = { en, zh };

let current = recall() ?? (navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag)) ?? 'en').slice(0, 2).toLowerCase();

function recall() {
  try {
    const stored = JSON.parse(localStorage.getItem(NAME) ?? 'null');
    return Object.hasOwn(TABLES, stored) ? stored : null;
  } catch {
    return null;
  }
}

/** @returns {string} */
export const language = () => (current === 'zh' ? 'zh-CN' : current);

/**
 * @param {string} name
 * @param {Values} [values]
 * @returns {string}
 */
export function t(name, values = {}) {
  const text = TABLES[current][name];
  if (typeof text === 'function') return text(values);
  return text.replace(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ key) => values[key]);
}

/** Go to the other language, and remember it in this browser. */
export function switchLanguage() {
  current = current === 'en' ? 'zh' : 'en';
  try {
    localStorage.setItem(NAME, JSON.stringify(current));
  } catch {
    // The browser forbids storage.
  }
}

/** Show the texts of all elements that name one. */
export function translate() {
  document.documentElement.lang = language();
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-t], [data-t-label]'))) {
    if (one.dataset.t) one.textContent = t(one.dataset.t);
    if (one.dataset.tLabel) one.ariaLabel = t(one.dataset.tLabel);
  }
}
