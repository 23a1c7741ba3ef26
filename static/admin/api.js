/**
 * Calls of the HTTP API, as any backend makes them.
 *
 * Rule 1: the key goes only into the header of a request to this server; a redirect is an error.
 */

const TIMEOUT_MS = 10_000;

/** Why a call failed. */
export class Problem extends Error {
  /**
   * @param {'lost' | 'key' | 'refused'} kind `lost`: no answer; `key`: the key is missing or wrong.
   * @param {string} message The server's sentence; empty if there was no answer.
   */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function request(path, options = {}) {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    return await fetch(path, { cache: 'no-store', redirect: 'error', signal, ...options });
  } catch {
    throw new Problem('lost', '');
  }
}

/** The API of this server, with a key. */
export class API {
  /** @param {string} key Empty if the server needs none. */
  constructor(key) {
    // A header has bytes; the server compares them with the key in UTF-8.
    const bytes = String.fromCharCode(...new TextEncoder().encode(key));
    this.headers = { 'Content-Type': 'application/json', ...(key ? { 'X-API-Key': bytes } : {}) };
  }

  /**
   * @param {string} method
   * @param {object} [parameters]
   * @returns {Promise<any>} The result.
   */
  async call(method, parameters = {}) {
    const response = await request(`api/${method}`, {
      method: 'POST', headers: this.headers, body: JSON.stringify(parameters),
    });
    const text = await response.text().catch(() => '');
    const answer = parse(text);
    if (response.ok && answer?.result) return answer.result;
    const message = answer?.error?.message ?? (answer ? '' : text.trim());
    // A proxy without a server behind it answers, too.
    if ([502, 504].includes(response.status)) throw new Problem('lost', '');
    throw new Problem(response.status === 401 ? 'key' : 'refused', message || `${response.status} ${response.statusText}`);
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @returns {Promise<'key' | 'none' | 'off'>} What a call of the API needs. */
export async function findAccess() {
  const response = await request('server.json');
  if (!response.ok) throw new Problem('lost', '');
  return (await response.json().catch(() => ({}))).api ?? 'key';
}

/** @returns {Promise<string>} Why the server is not ready; empty if it is. */
export async function findNotReady() {
  const response = await request('ready');
  // The first line is the status.
  return response.ok ? '' : (await response.text()).replace(/^\d{3} .*\n/, '').trim();
}
