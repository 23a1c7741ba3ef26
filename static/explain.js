/**
 * Explain to the user how a connection ended.
 *
 * Rule 1: pure functions; what the server answered when it was asked for the reason is an argument.
 */

import { t } from './i18n.js';
import { explainCode } from './server.js';

/** Codes with which a connection ends when nothing went wrong. */
const NORMAL = [1000, 1001, 1005];

/** @typedef {import('./connection.js').Ending} Ending */
/** @typedef {import('./server.js').Server} Server */

/**
 * @typedef {object} Happening An event that is not a message.
 * @property {string} title
 * @property {string} [details]
 * @property {'good' | 'bad' | ''} [mood]
 * @property {string} [tryUrl] A URL that could work instead.
 */

/**
 * @param {Ending} ending
 * @param {Server} server
 * @returns {Happening}
 */
export function explainClose({ url, code, reason, wasClean, byUs }, server) {
  const details = [
    t('codeMeans', { code, meaning: explainCode(server, code, url) }),
    reason ? t('reasonGiven', { reason }) : t('noReason'),
    t(wasClean ? 'clean' : 'notClean'),
  ];
  const who = byUs ? 'disconnected' : wasClean ? 'closedByServer' : 'connectionLost';
  const normal = wasClean && (byUs || NORMAL.includes(code));
  return { title: t(who, { code }), details: details.join('\n'), mood: normal ? '' : 'bad' };
}

/**
 * @param {Ending} ending
 * @param {string} answer What the server answered to a plain request; empty if that is unknown.
 * @returns {Happening}
 */
export function explainFailure(ending, answer) {
  const { url } = ending;
  const title = t('couldNotConnect', { url });
  if (answer) return { title, details: t('serverAnswered', { answer }), mood: 'bad' };
  const { protocol, host } = new URL(url);
  const tryUrl = protocol === 'wss:' ? url.replace('wss', 'ws') : undefined;
  // This page itself came from this port without TLS.
  const isPlain = tryUrl && host === location.host && location.protocol === 'http:';
  const details = isPlain ? t('portIsPlain', { url: tryUrl }) : [t('browserHides'), ...advise(ending)].join('\n• ');
  return { title, details, mood: 'bad', tryUrl };
}

/** @param {Ending} ending @returns {string[]} What the user can check. */
function advise({ url, protocols }) {
  const { protocol, host } = new URL(url);
  const secure = protocol === 'wss:';
  return [
    t('checkRunning', { url: `${secure ? 'https' : 'http'}://${host}/` }),
    secure ? t('checkCertificate') : '',
    secure ? t('checkPlain', { url: url.replace('wss', 'ws') }) : '',
    t('checkPath'),
    protocols.length ? t('checkSubprotocols', { protocols: protocols.join(', ') }) : '',
    t('checkOrigin', { origin: location.origin }),
    t('checkLog'),
  ].filter(Boolean);
}
