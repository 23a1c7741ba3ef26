/**
 * Find out why a server refused a connection. Browsers hide the response to a refused handshake; a plain request to the
 * same path is refused for the same reason, and its response can be read if the page came from this server.
 */

const PATIENCE_MS = 3000;
const UPGRADE_REQUIRED = 426;

/**
 * @param {string} url The URL of the refused WebSocket.
 * @returns {Promise<string>} The server's sentence; empty if the reason is unknown.
 */
export async function askWhyRefused(url) {
  const asked = new URL(url.replace(/^ws/, 'http'));
  if (asked.origin !== location.origin) return '';
  if (asked.searchParams.has('channel')) {
    // The server refuses an event stream of a channel for the same reason as a WebSocket.
    asked.pathname = new URL('sse', document.baseURI).pathname;
    asked.searchParams.delete('format');
  }
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
