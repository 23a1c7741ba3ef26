/**
 * Find out why a server refused a connection. Browsers hide the response to a refused handshake; a plain request to the
 * same path is refused for the same reason, and its response can be read if the page came from this server.
 */

const PATIENCE_MS = 3000;
const UPGRADE_REQUIRED = 426;

/**
 * @param {string} url The URL of the refused WebSocket.
 * @param {string} key The API key, if the user has one: with it, the server lists what it refused.
 * @returns {Promise<string>} The server's sentence; empty if the reason is unknown.
 */
export async function askWhyRefused(url, key) {
  const asked = new URL(url.replace(/^ws/, 'http'));
  if (asked.origin !== location.origin) return '';
  return await readRefusal(asked) || (key ? findRefusal(asked.pathname, key) : '');
}

/** @param {URL} refused */
async function readRefusal(refused) {
  const stream = new URL(refused);
  // The server refuses an event stream of a channel, and a misspelled parameter, for the same reason as a WebSocket.
  stream.pathname = new URL('sse', document.baseURI).pathname;
  stream.searchParams.delete('format');
  const isChannel = refused.search && refused.pathname === new URL('ws', document.baseURI).pathname;
  return (isChannel && await readAnswer(stream)) || readAnswer(refused);
}

/** @param {URL} asked */
async function readAnswer(asked) {
  const stopped = new AbortController();
  const timer = setTimeout(() => stopped.abort(), PATIENCE_MS);
  try {
    const response = await fetch(asked, { signal: stopped.signal, cache: 'no-store' });
    if (response.ok || response.status === UPGRADE_REQUIRED) return '';
    return (await response.text()).trim();
  } catch {
    return '';
  } finally {
    clearTimeout(timer);
    stopped.abort();
  }
}

/** @param {string} path @param {string} key */
async function findRefusal(path, key) {
  try {
    const headers = { 'Content-Type': 'application/json', 'X-API-Key': key };
    const response = await fetch('api/rejects', { method: 'POST', headers, body: '{}' });
    const { rejects = [] } = (await response.json()).result ?? {};
    // The last one comes first.
    const found = rejects.find((/** @type {{path: string}} */ one) => one.path.split('?')[0] === path);
    return found ? `${found.status}: ${found.reason}` : '';
  } catch {
    return '';
  }
}
