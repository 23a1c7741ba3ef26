/**
 * The description of the server in server.json: its paths, its commands, and the meaning of its close codes.
 *
 * Rule 1: the page contains none of this itself. Without an answer it still works, with fewer explanations.
 */

import { isTranslated, t } from './i18n.js';

/**
 * @typedef {object} Server
 * @property {{path: string, speaks: string, help: string}[]} paths
 * @property {{name: string, help: string}[]} commands
 * @property {Record<string, string>} closeCodes
 * @property {boolean} tap Whether the server shows clients what the wire carries; see tap.js.
 * @property {boolean} faults Whether it has faults on request.
 * @property {string} problem Why the lists are empty; empty if there was no problem.
 */

/** @type {Server} */
export const UNKNOWN_SERVER = { paths: [], commands: [], closeCodes: {}, tap: false, faults: false, problem: '' };

/** The WebSocket URL of the directory of the page. */
export const base = new URL('./', location.href);
base.protocol = base.protocol === 'https:' ? 'wss:' : 'ws:';

/** @returns {Promise<Server>} Never rejects: `problem` reports a failure. */
export async function loadServer() {
  try {
    const response = await fetch('server.json');
    if (!response.ok) throw new Error(`status ${response.status}`);
    return { ...UNKNOWN_SERVER, ...(await response.json()) };
  } catch (error) {
    return { ...UNKNOWN_SERVER, problem: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * @param {Server} server
 * @param {number} code
 * @param {string} url Where the code came from: those above 4000 mean something else on every server.
 * @returns {string}
 */
export function explainCode(server, code, url) {
  const { host, pathname } = new URL(url);
  const isOurs = code < 4000 || (host === location.host && !pathname.includes('/faults/'));
  if (isOurs && isTranslated(`code.${code}`)) return t(`code.${code}`);
  if (isOurs && server.closeCodes[code]) return server.closeCodes[code];
  if (code >= 3000 && code <= 3999) return t('codeRegistered');
  if (code >= 4000 && code <= 4999) return t('codePrivate');
  return t('codeUnknown');
}
