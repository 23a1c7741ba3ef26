/**
 * Publish to a channel: with an API key over HTTP, without one as a client.
 *
 * Rule 1: the API key goes into one request header, and nowhere else.
 */

import { t } from './i18n.js';
import { base } from './server.js';

const PERMISSION_DENIED = 103;

/**
 * @param {string} key Empty to publish as a client.
 * @param {string} channel
 * @param {string} data
 * @returns {Promise<string>} What happened, for the user.
 * @throws {Error} With the server's reason.
 */
export const publish = (key, channel, data) => (key ? withKey(key, channel, data) : asClient(channel, data));

/**
 * @param {string} key
 * @param {string} channel
 * @param {string} data
 */
async function withKey(key, channel, data) {
  const response = await fetch('api/publish', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-API-Key': key },
    body: JSON.stringify({ channel, data }),
  });
  const { result, error } = await response.json();
  if (!result) throw new Error(error?.message ?? `status ${response.status}`);
  return t('delivered', { count: result.delivered });
}

/**
 * Publish over the Centrifuge protocol, as clients may on channels of --channel-publish.
 *
 * @param {string} channel
 * @param {string} data
 */
async function asClient(channel, data) {
  const socket = new WebSocket(new URL('connection/websocket', base));
  const commands = [{ id: 1, connect: {} }, { id: 2, publish: { channel, data } }];
  socket.onopen = () => socket.send(commands.map((command) => JSON.stringify(command)).join('\n'));
  try {
    await new Promise((resolve, reject) => {
      socket.onclose = ({ code, reason }) => reject(new Error(reason || t('closedWith', { code })));
      socket.onmessage = (event) => {
        for (const line of event.data.split('\n').filter(Boolean)) {
          const { id, error } = JSON.parse(line);
          if (error) reject(new Error(error.code === PERMISSION_DENIED ? `${error.message}. ${t('orKey')}` : error.message));
          else if (id === 2) resolve(undefined);
        }
      };
    });
  } finally {
    socket.close();
  }
  return t('asClient');
}
