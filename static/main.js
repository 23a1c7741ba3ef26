/**
 * The page: connects the form, the connection, the channel, and the list of messages.
 *
 * Rule 1: decides nothing that one of its modules could decide.
 */

import { Announcer } from './announcer.js';
import { exactSize, previewBytes } from './bytes.js';
import { Channel } from './channel.js';
import { offerClosing } from './closing.js';
import { offerCode } from './code.js';
import { offerCommands } from './commands.js';
import { Composer } from './composer.js';
import { offerUrls, startForm } from './connectform.js';
import { Detail } from './detail.js';
import { byId } from './dom.js';
import en from './en.js';
import { offerExport } from './export.js';
import { Faults } from './faults.js';
import { applyLanguage, offerLanguages, readTable, speak, t } from './i18n.js';
import { MessageList } from './list.js';
import { Messages } from './messages.js';
import { Plots } from './plots.js';
import { recall, remember } from './preferences.js';
import { Problem } from './problem.js';
import { Repeat } from './repeat.js';
import { offerSearch } from './search.js';
import { loadServer, UNKNOWN_SERVER } from './server.js';
import { Session } from './session.js';
import { Tap } from './tap.js';
import { offerThemes } from './theme.js';
import { offerViews, showView } from './views.js';
import { describeControl, wireView } from './wireview.js';

/** @typedef {import('./session.js').Shown} Shown */
/** @typedef {import('./explain.js').Happening} Happening */
/** @typedef {string | ArrayBuffer} Data */

const BUFFER_POLL_MS = 100;
const FINE_POINTER = matchMedia('(pointer: fine)');

await speak({ en, zh: async () => (await import('./zh.js')).default }, { zh: readTable('zh-server.json') });

let server = UNKNOWN_SERVER;

export const messages = new Messages();
const detail = new Detail();
export const list = new MessageList(messages, (message, byKey) => detail.show(message, byKey));
const announcer = new Announcer(byId('announcer'));
const problem = new Problem((url) => {
  session.connectTo(url);
});
const commands = offerCommands((name) => {
  showView('messages');
  sendData(name);
});

const plots = new Plots();
const tap = new Tap({
  onWire: (message) => detail.refresh(message),
  onControl: (event) => {
    messages.add({ direction: 'event', data: describeControl(event), wire: [event] });
    list.draw();
  },
});
/** @type {HTMLInputElement} */ const wantsTap = byId('tap');

const session = new Session({
  onState: showState,
  onEvent: (happening) => {
    const event = addEvent(happening);
    if (session.state !== 'CONNECTING' || happening.mood === 'good') tap.happened(event, happening.mood === 'good');
  },
  onMessage: receive,
  server: () => server,
  key: () => /** @type {HTMLInputElement} */ (byId('api-key')).value,
  prepare: (url) => tap.prepare(url, server.tap && wantsTap.checked),
});
const faults = new Faults((path) => {
  showView('messages');
  session.connectTo(path);
});
const composer = new Composer(sendData, () => session.state === 'OPEN');
const repeat = new Repeat(() => composer.read(), sendData, () => session.bufferedAmount);
composer.onProblem = (text) => announcer.say(() => text);

new Channel({
  onMessage: receive,
  onEvent: (happening, channel) => {
    showView('messages');
    addEvent(happening, channel);
  },
  server: () => server,
});

/** @param {Data} data @param {string} [channel] */
function receive(data, channel) {
  const message = messages.add({ direction: 'received', data, channel });
  if (channel === undefined) tap.passed(message);
  plots.received(data, channel === undefined);
  list.draw();
  announcer.say(() => (typeof data === 'string'
    ? t('announceText', { text: data || t('emptyMessage') })
    : t('announceBinary', { text: previewBytes(data) })));
}

/** @param {Happening} happening @param {string} [channel] */
function addEvent(happening, channel) {
  const { title, details, mood } = happening;
  const event = messages.add({ direction: 'event', data: title, details, mood, channel });
  list.draw();
  if (mood === 'bad') problem.show(happening);
  announcer.say(() => `${title}. ${details ?? ''}`);
  return event;
}

/** @param {Data} data */
function sendData(data) {
  session.send(data);
  plots.sent(data);
  tap.passed(messages.add({ direction: 'sent', data }));
  list.draw();
  showBuffered();
}

/** @param {Shown} state */
function showState(state) {
  const isOpen = state === 'OPEN';
  for (const id of ['send', 'repeat-start', 'close']) /** @type {HTMLButtonElement} */ (byId(id)).disabled = !isOpen;
  commands.enable(isOpen);
  if (isOpen) tap.open();
  else {
    repeat.stop();
    plots.trips.reset();
  }
  if (state === 'OPEN' || state === 'CONNECTING') problem.hide();
  keepFocus(isOpen);
  showBuffered();
}

/**
 * Move the keyboard focus from a control that was disabled, and from Connect to the message when there is a connection.
 *
 * @param {boolean} isOpen
 */
function keepFocus(isOpen) {
  const focused = document.activeElement;
  if (isOpen && focused === byId('connect') && FINE_POINTER.matches) composer.focus();
  else if (focused?.matches(':disabled')) byId('connect').focus();
}

function showBuffered() {
  const bufferedAmount = session.bufferedAmount;
  byId('buffered').hidden = bufferedAmount === 0;
  byId('buffered').textContent = t('buffered', { size: exactSize(bufferedAmount) });
  // No event reports that it shrinks. A closed socket keeps its amount forever.
  if (bufferedAmount && session.state !== 'CLOSED') setTimeout(showBuffered, BUFFER_POLL_MS);
}

/** @param {string} id @param {string} form Opens and closes a form below the message. */
function offerForm(id, form) {
  byId(id).addEventListener('click', () => {
    byId(form).hidden = !byId(form).hidden;
    byId(id).ariaExpanded = String(!byId(form).hidden);
    if (!byId(form).hidden) byId(form).querySelector('input')?.focus();
  });
}

detail.views.wire = ({ wire }) => (wire ? wireView(wire) : null);
wantsTap.checked = recall('tap', true);
wantsTap.addEventListener('change', () => remember('tap', wantsTap.checked ? null : false));
startForm(() => session.toggle(), () => session.enter());
offerClosing((code, reason) => session.disconnect(code, reason));
offerForm('repeat-toggle', 'repeat-form');
offerForm('close-toggle', 'close-form');
offerCode();
offerSearch((test) => list.filter(test));
offerThemes();
offerViews();
offerExport(list.filtered);
byId('clear').addEventListener('click', () => list.clear());
offerLanguages(byId('language'));
applyLanguage();
server = await loadServer();
offerUrls(server.paths);
commands.offer(server);
byId('tap-option').hidden = !server.tap;
if (server.faults) await faults.load();
