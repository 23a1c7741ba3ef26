/**
 * The page for operators: asks for the key, then shows what the HTTP API returns, again every two seconds.
 *
 * Rule 1: decides what is shown; the other modules show it.
 */

import { applyLanguage, offerLanguages, onLanguage, speak, t } from '../i18n.js';
import { offerThemes } from '../theme.js';
import { API, findAccess, findNotReady, Problem } from './api.js';
import { showBoard } from './board.js';
import { isAsking, stopAsking } from './confirm.js';
import { connectionsView } from './connections.js';
import { byId, element, say } from './dom.js';
import en from './en.js';
import { count } from './format.js';
import { Frame } from './frame.js';
import { keepKey, recallKey } from './key.js';
import { Samples } from './samples.js';
import { channelsView, limitsView, processesView, refusalsView } from './views.js';

const POLL_MS = 2000;

await speak({ en, zh: async () => (await import('./zh.js')).default });

let samples = new Samples();
let frame = new Frame(samples, (error) => fail(error));
/** @type {API | null} */
let api = null;
/** @type {'connecting' | 'live' | 'lost'} */
let link = 'connecting';
let [lostAt, notReady, keyProblem, needsKey] = [new Date(), '', '', true];
/** @type {{title: string, text?: string, message?: string, command?: string} | null} The texts are names. */
let obstacle = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

const VIEWS = [
  connectionsView(() => api, () => frame.refresh(true)),
  channelsView((channel) => { history.pushState(null, '', '#connections'); openView(channel); }),
  refusalsView,
  limitsView,
  processesView,
];

/** @returns {import('./frame.js').View} The one that the URL names. */
const wantedView = () => VIEWS.find(({ name }) => `#${name}` === location.hash) ?? VIEWS[0];

/** @param {string} [channel] Show only the connections of this channel. */
function openView(channel = '') {
  frame.open(wantedView(), channel);
  showTabs();
}

function showTabs() {
  const counts = {
    connections: samples.nodes.reduce((sum, node) => sum + node.num_clients, 0),
    channels: samples.nodes.reduce((sum, node) => Math.max(sum, node.num_channels), 0),
    refusals: samples.counters('refusals_total').reduce((sum, { total }) => sum + total, 0),
    limits: samples.counters('limit_hits_total').reduce((sum, { total }) => sum + total, 0),
    processes: samples.nodes.length,
  };
  const open = frame.view?.name;
  const focused = document.activeElement?.getAttribute('href');
  byId('tabs').replaceChildren(...VIEWS.map(({ name }) => element('a', {
    href: `#${name}`, ...(name === open ? { aria: { current: 'page' } } : {}),
  }, t(name), ' ', element('span', { className: 'badge', textContent: count(counts[/** @type {keyof typeof counts} */ (name)]) }))));
  if (focused) /** @type {HTMLElement | null} */ (byId('tabs').querySelector(`[href="${focused}"]`))?.focus({ preventScroll: true });
}

/** Show what is known, in the present language. */
function show() {
  const isOpen = api !== null && !obstacle;
  byId('sign-out').hidden = !isOpen || !needsKey;
  byId('gate').hidden = isOpen;
  byId('board').hidden = !isOpen;
  byId('key-form').hidden = isOpen || obstacle !== null;
  byId('obstacle').hidden = obstacle === null;
  say(byId('key-problem'), keyProblem && t(keyProblem));
  byId('key').ariaInvalid = String(Boolean(keyProblem));
  if (obstacle) {
    say(byId('obstacle-title'), t(obstacle.title));
    say(byId('obstacle-text'), obstacle.message ?? t(obstacle.text ?? ''));
    say(byId('obstacle-command'), obstacle.command ?? '');
  }
  showLink(isOpen);
  if (!isOpen) return;
  showBoard(samples, performance.now(), notReady);
  showTabs();
}

/** @param {boolean} isOpen */
function showLink(isOpen) {
  say(byId('link'), isOpen ? t(link) : '');
  byId('link').dataset.state = link;
  byId('board').classList.toggle('stale', link === 'lost');
  say(byId('lost'), link === 'lost' ? t('lostSince', { time: lostAt.toLocaleTimeString() }) : '');
  say(byId('not-ready'), notReady && link !== 'lost' ? t('notReady', { reason: notReady }) : '');
}

/** Ask the server what it does now, and again in two seconds. */
async function poll() {
  clearTimeout(timer);
  if (!api) return;
  const asked = api;
  try {
    const [{ nodes }, problem] = await Promise.all([api.call('info'), findNotReady()]);
    if (api !== asked) return;
    samples.add(nodes, performance.now());
    [link, notReady, obstacle] = ['live', problem, null];
    if (!frame.view) openView();
    else if (!isAsking()) frame.tick();
  } catch (error) {
    if (api !== asked) return;
    fail(error);
  }
  show();
  if (api) timer = setTimeout(poll, POLL_MS);
}

/** @param {unknown} error */
function fail(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.kind === 'key') leave(samples.nodes.length ? 'keyChanged' : 'wrongKey');
  else if (error.kind === 'refused') obstacle = { title: 'refusedTitle', message: error.message };
  else if (link !== 'lost') {
    if (!samples.nodes.length) obstacle = { title: 'unreachableTitle', text: 'unreachableText' };
    [link, lostAt] = ['lost', new Date()];
    samples.gap(performance.now());
  }
  show();
}

/** @param {string} key Empty if the server needs none. */
async function enter(key) {
  api = frame.api = new API(key);
  link = 'connecting';
  try {
    const { nodes } = await api.call('info');
    samples.add(nodes, performance.now());
    keepKey(key);
    [keyProblem, obstacle] = ['', null];
    /** @type {HTMLInputElement} */ (byId('key')).value = '';
    poll();
  } catch (error) {
    fail(error);
    if (api) timer = setTimeout(poll, POLL_MS);
  }
}

/** Forget the key and everything that was shown. @param {string} [problem] */
function leave(problem = '') {
  clearTimeout(timer);
  keepKey('');
  api = null;
  stopAsking();
  frame.turn += 1;
  frame.view = frame.found = frame.api = null;
  samples.answers.length = samples.points.length = 0;
  for (const id of ['facts', 'view-body', 'confirm-body']) byId(id).replaceChildren();
  [keyProblem, notReady, obstacle] = [problem, '', null];
  show();
  byId('key').focus();
}

async function start() {
  clearTimeout(timer);
  obstacle = null;
  try {
    const access = await findAccess();
    needsKey = access === 'key';
    if (access === 'off') {
      obstacle = { title: 'offTitle', text: 'offText', command: 'WSSERVER_API_KEY=… wsserver serve' };
    } else if (!needsKey || recallKey()) {
      await enter(needsKey ? recallKey() : '');
      return;
    }
  } catch {
    obstacle = { title: 'unreachableTitle', text: 'unreachableText' };
    timer = setTimeout(start, POLL_MS);
  }
  show();
  if (!obstacle) byId('key').focus();
}

byId('key-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = /** @type {HTMLButtonElement} */ (byId('enter'));
  button.disabled = true;
  button.textContent = t('entering');
  keyProblem = '';
  await enter(/** @type {HTMLInputElement} */ (byId('key')).value.trim());
  button.disabled = false;
  button.textContent = t('enter');
});
byId('sign-out').addEventListener('click', () => leave());
byId('again').addEventListener('click', start);
addEventListener('hashchange', () => { if (frame.view) openView(); });

offerThemes();
offerLanguages(byId('language'));
onLanguage(() => { show(); frame.label(); });
applyLanguage();
start();
