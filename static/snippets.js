/**
 * The connection of the page as a command or a program for others to run.
 *
 * Rule 1: pure functions; everything a user typed is quoted for the language it stands in.
 */

/** @typedef {{url: string, protocols: string[], message: string}} Example */

/** @type {Record<string, {label: string, write: (example: Example) => string}>} */
export const SNIPPETS = {
  websocat: { label: 'websocat', write: websocat },
  wscat: { label: 'wscat', write: wscat },
  python: { label: 'Python', write: python },
  javascript: { label: 'JavaScript', write: javascript },
};

/** @param {string} text @returns {string} For a POSIX shell. */
export const quoteForShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @param {Example} example */
function websocat({ url, protocols, message }) {
  const asked = protocols.length ? ` --protocol ${quoteForShell(protocols.join(', '))}` : '';
  if (!message) return `websocat${asked} ${quoteForShell(url)}`;
  // Messages end at a zero byte instead of a line's end, so that they can have several lines.
  return `printf '%s\\0' ${quoteForShell(message)} |\n  websocat --no-close --null-terminated${asked} ${quoteForShell(url)}`;
}

/** @param {Example} example */
function wscat({ url, protocols, message }) {
  const asked = protocols.map((one) => ` --subprotocol ${quoteForShell(one)}`).join('');
  const sent = message ? ` --execute ${quoteForShell(message)} --wait 5` : '';
  return `wscat --connect ${quoteForShell(url)}${asked}${sent}`;
}

/** @param {Example} example */
function python({ url, protocols, message }) {
  // The strings of JSON are also strings of Python.
  const asked = protocols.length ? `, subprotocols=${JSON.stringify(protocols).replaceAll('","', '", "')}` : '';
  const lines = [
    `with connect(${JSON.stringify(url)}${asked}) as websocket:`,
    message && `    websocket.send(${JSON.stringify(message)})`,
    '    for received in websocket:',
    '        print(received)',
  ];
  return ['# pip install websockets', 'from websockets.sync.client import connect', '', ...lines.filter(Boolean)].join('\n');
}

/** @param {Example} example */
function javascript({ url, protocols, message }) {
  const asked = protocols.length ? `, ${JSON.stringify(protocols).replaceAll('","', '", "')}` : '';
  const lines = [
    '// Browsers, Node.js 22, Deno and Bun',
    `const socket = new WebSocket(${JSON.stringify(url)}${asked});`,
    message && `socket.onopen = () => socket.send(${JSON.stringify(message)});`,
    'socket.onmessage = (event) => console.log(event.data);',
    "socket.onclose = (event) => console.log('closed', event.code, event.reason);",
  ];
  return lines.filter(Boolean).join('\n');
}
