/**
 * Runs the server's conformance cases with the WebSocket of this browser, and shows the verdicts.
 */

import { byId, element } from './dom.js';
import { onLanguage, say } from './i18n.js';

/** Milliseconds after which a case is given up. The server ends one after a minute at the latest. */
const CASE_TIMEOUT = 65_000;
const BROWSERS = [['Edg', 'Edge'], ['Firefox', 'Firefox'], ['Chrome', 'Chrome'], ['Version', 'Safari']];
/** @type {Record<string, string>} */
const WORDS = { pass: 'passed', informational: 'informational', fail: 'failed', missing: 'not run' };

/** @typedef {{case: string, verdict: string | null, tested: boolean, reason: string | null}} Row */
/** @typedef {{counts: Record<string, number>, cases: Row[]}} Report */

/** @type {HTMLInputElement} */ const agentField = byId('agent');
/** @type {HTMLProgressElement} */ const progress = byId('progress');
/** @type {Report | null} */
let report = null;
let status = '';

/** @returns {string} A name for the report, such as "Chrome 140". */
function nameBrowser() {
  for (const [token, name] of BROWSERS) {
    const version = new RegExp(`${token}/(\\d+)`).exec(navigator.userAgent);
    if (version) return `${name} ${version[1]}`;
  }
  return 'Browser';
}

/**
 * Connect to a case, and send back every message until the connection is closed.
 *
 * @param {number} number
 * @param {string} agent
 * @returns {Promise<void>}
 */
function runCase(number, agent) {
  return new Promise((resolve) => {
    const url = new URL(`case/${number}?agent=${encodeURIComponent(agent)}`, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    const timer = setTimeout(() => socket.close(), CASE_TIMEOUT);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => socket.send(event.data);
    socket.onclose = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

/** @param {string} path @returns {Promise<any>} A JSON document of the server. */
async function load(path) {
  const response = await fetch(path, { headers: { Accept: 'application/json' } });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

/** @param {string} text In English. */
function tell(text) {
  status = text;
  byId('status').textContent = say(text);
}

/** @param {string} kind @param {string} text */
const verdict = (kind, text) => element('span', { className: `verdict ${kind}` }, say(text));

/** @param {Row} one */
function makeRow({ case: name, verdict: kind, tested, reason }) {
  const word = kind === null || tested ? WORDS[kind ?? 'missing'] : 'not tested';
  return element('tr', {},
    element('td', {}, element('code', {}, name)),
    element('td', {}, verdict(kind ?? 'missing', word)),
    element('td', {}, element('bdi', {}, reason ?? '')));
}

/** Show the report in the present language. */
function show() {
  byId('status').textContent = say(status);
  if (!report) return;
  byId('summary').replaceChildren(
    ...Object.entries(report.counts).map(([kind, count]) => verdict(kind, `${count} ${WORDS[kind]}`)));
  const rows = report.cases.filter((one) => one.verdict !== 'pass').map(makeRow);
  byId('rows').replaceChildren(...rows);
  byId('table').hidden = rows.length === 0;
  byId('summary').hidden = byId('link').hidden = false;
}

async function run() {
  const agent = agentField.value.trim() || nameBrowser();
  const { count } = await load('case/count?format=json');
  progress.max = count;
  progress.hidden = false;
  for (let number = 1; number <= count; number += 1) {
    tell(`Case ${number} of ${count}`);
    await runCase(number, agent);
    progress.value = number;
  }
  const address = `case/report?agent=${encodeURIComponent(agent)}`;
  report = await load(`${address}&format=json`);
  /** @type {HTMLAnchorElement} */ (byId('report')).href = address;
  tell('All cases have been run.');
  show();
}

agentField.value = nameBrowser();
onLanguage(show);
byId('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  /** @type {HTMLButtonElement} */ const button = byId('run');
  button.disabled = true;
  try {
    await run();
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
  }
  button.disabled = false;
});
