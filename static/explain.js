/**
 * Explain to the user how a connection ended.
 *
 * Rule 1: pure functions; the page's own origin is an argument.
 */

import { explainCode } from './server.js';

/** @typedef {import('./connection.js').Ending} Ending */
/** @typedef {import('./log.js').Happening} Happening */
/** @typedef {import('./server.js').Server} Server */

/**
 * @param {Ending} ending
 * @param {Server} server
 * @param {string} origin The page's origin.
 * @returns {Happening}
 */
export function explainEnding(ending, server, origin) {
  if (ending.wasOpen) return explainClose(ending, server);
  if (ending.byUs) return { title: 'Disconnected before the connection was open' };
  return explainFailure(ending, origin);
}

/**
 * @param {Ending} ending
 * @param {Server} server
 * @returns {Happening}
 */
function explainClose({ code, reason, wasClean, byUs }, server) {
  const details = [
    `${code} means ${explainCode(server, code)}`,
    reason ? `Reason given: “${reason}”` : 'No reason given',
    wasClean
      ? 'Clean: both sides completed the closing handshake'
      : 'Not clean: the connection ended without a complete closing handshake',
  ];
  const who = byUs ? 'Disconnected' : wasClean ? 'Closed by the server' : 'Connection lost';
  return { title: `${who}, code ${code}`, details: details.join('\n'), mood: wasClean ? undefined : 'bad' };
}

/**
 * @param {Ending} ending
 * @param {string} origin
 * @returns {Happening}
 */
function explainFailure({ url, protocols }, origin) {
  const { protocol, host } = new URL(url);
  const secure = protocol === 'wss:';
  const details = [
    'Browsers do not tell a page why: neither the status nor the network error. What to check:',
    `• Is a server running there? Open ${secure ? 'https' : 'http'}://${host}/ in a new tab.`,
    secure && '• Is its certificate trusted? The new tab shows a warning if it is not.',
    '• Is there a WebSocket endpoint at this path?',
    protocols.length && `• Does the server support one of the requested subprotocols (${protocols.join(', ')})?`,
    `• Does the server allow pages from ${origin}?`,
    '• The log of the server says why it refused the connection.',
  ];
  return { title: `Could not connect to ${url}`, details: details.filter(Boolean).join('\n'), mood: 'bad' };
}
