// Runs the server's conformance cases with the WebSocket of this browser, and shows the verdicts.

const byId = (id) => document.getElementById(id);

/** Milliseconds after which a case is given up. The server ends one after a minute at the latest. */
const CASE_TIMEOUT = 65_000;

/** Returns a name for the report, such as "Chrome 140". */
function nameBrowser() {
  const known = [['Edg', 'Edge'], ['Firefox', 'Firefox'], ['Chrome', 'Chrome'], ['Version', 'Safari']];
  for (const [token, name] of known) {
    const version = new RegExp(`${token}/(\\d+)`).exec(navigator.userAgent);
    if (version) return `${name} ${version[1]}`;
  }
  return 'Browser';
}

/** Connects to a case, and sends back every message until the connection is closed. */
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

/** Returns a JSON document of the server. */
async function load(path) {
  const response = await fetch(path, { headers: { Accept: 'application/json' } });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

function cell(text, className) {
  const td = document.createElement('td');
  const span = document.createElement(className ? 'span' : 'bdi');
  if (className) span.className = className;
  span.textContent = text;
  td.append(span);
  return td;
}

function show(report, address) {
  const counts = Object.entries(report.counts);
  byId('summary').replaceChildren(...counts.flatMap(([verdict, count]) => {
    const span = document.createElement('span');
    span.className = `verdict ${verdict}`;
    span.textContent = `${count} ${verdict}`;
    return [span, ' '];
  }));
  const rows = report.cases.filter((one) => one.verdict !== 'pass').map((one) => {
    const row = document.createElement('tr');
    const verdict = one.verdict ?? 'missing';
    const word = one.verdict === null ? 'not run' : one.tested ? one.verdict : 'not tested';
    row.append(cell(one.case), cell(word, `verdict ${verdict}`), cell(one.reason ?? ''));
    return row;
  });
  byId('rows').replaceChildren(...rows);
  byId('table').hidden = rows.length === 0;
  byId('report').href = address;
  byId('summary').hidden = byId('link').hidden = false;
}

async function run() {
  const agent = byId('agent').value.trim() || nameBrowser();
  const progress = byId('progress');
  const { count } = await load('case/count?format=json');
  progress.max = count;
  progress.hidden = false;
  for (let number = 1; number <= count; number += 1) {
    byId('status').textContent = `Case ${number} of ${count}`;
    await runCase(number, agent);
    progress.value = number;
  }
  const address = `case/report?agent=${encodeURIComponent(agent)}`;
  show(await load(`${address}&format=json`), address);
  byId('status').textContent = 'All cases have been run.';
}

byId('agent').value = nameBrowser();
byId('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  byId('run').disabled = true;
  try {
    await run();
  } catch (error) {
    byId('status').textContent = error.message;
  }
  byId('run').disabled = false;
});
