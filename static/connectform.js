/**
 * The connection form: what to connect to, how, and the saved connections.
 *
 * Rule 1: opens nothing itself; onConnect and onCancel do.
 */

import { byId, element } from './dom.js';
import { onLanguage, t } from './i18n.js';
import { recall, remember, THIS_TAB } from './preferences.js';
import { base } from './server.js';

const EXAMPLES = ['/', '/echo', '/ticker?every=1s&count=5'];
const MAX_SAVED = 50;

/** @typedef {{name: string, url: string, protocols: string}} Saved */

/** @type {HTMLInputElement} */ const url = byId('url');
/** @type {HTMLInputElement} */ const protocols = byId('protocols');
/** @type {HTMLInputElement} */ const again = byId('reconnect');
/** @type {HTMLInputElement} */ const name = byId('save-name');

/** @returns {string[]} */
export const askedProtocols = () => protocols.value.split(/[\s,]+/).filter(Boolean);
export const wantsReconnect = () => again.checked;

/** @returns {string} The URL that the user typed, as the user would see it in an error. */
export const typedUrl = () => url.value;

/**
 * @returns {string}
 * @throws {TypeError} When it is not a URL.
 */
export function targetUrl() {
  const typed = url.value.trim();
  // Users enter host:port/path, which would otherwise be a path of this server.
  const full = typed.includes('://') || typed.startsWith('/') ? typed : `${base.protocol}//${typed}`;
  return new URL(full, base).href;
}

/** @param {string} value */
export function setUrl(value) {
  url.value = value;
  keepForm();
}

/** @param {{path: string, speaks: string}[]} paths */
export function offerUrls(paths) {
  const own = paths.filter(({ speaks }) => speaks === 'WebSocket').map(({ path }) => path);
  const others = own.filter((path) => !EXAMPLES.some((example) => example.split('?')[0] === path));
  byId('urls').replaceChildren(...[...EXAMPLES, ...others].map((path) => new Option('', new URL(path, base).href)));
}

function keepForm() {
  remember('form', { url: url.value, protocols: protocols.value, again: again.checked }, THIS_TAB);
}

/** @returns {Saved[]} */
function readSaved() {
  const stored = recall('saved', []);
  return Array.isArray(stored) ? stored.filter((one) => typeof one?.url === 'string').slice(0, MAX_SAVED) : [];
}

/** @param {Saved[]} saved */
function writeSaved(saved) {
  remember('saved', saved.length ? saved : null);
  showSaved();
}

function showSaved() {
  const saved = readSaved();
  byId('saved-empty').hidden = saved.length > 0;
  byId('saved').replaceChildren(...saved.map((one) => element('li', {}, savedButton(one), removeButton(one))));
}

/** @param {Saved} saved */
function savedButton(saved) {
  const label = saved.protocols ? `${saved.url} · ${saved.protocols}` : saved.url;
  const button = element('button', { type: 'button', className: 'ghost', title: label },
    element('span', { className: 'name' }, saved.name || saved.url), element('span', { className: 'hint' }, label));
  button.addEventListener('click', () => {
    protocols.value = saved.protocols ?? '';
    setUrl(saved.url);
    byId('connect').focus();
  });
  return button;
}

/** @param {Saved} saved */
function removeButton(saved) {
  const label = t('remove', { name: saved.name || saved.url });
  const button = element('button', { type: 'button', className: 'ghost', title: label, ariaLabel: label }, '✕');
  button.addEventListener('click', () => {
    writeSaved(readSaved().filter((one) => one.name !== saved.name || one.url !== saved.url));
    name.focus();
  });
  return button;
}

function save() {
  const added = { name: name.value.trim(), url: url.value.trim(), protocols: protocols.value.trim() };
  const others = readSaved().filter((one) => one.url !== added.url || one.protocols !== added.protocols);
  writeSaved([added, ...others].slice(0, MAX_SAVED));
  name.value = '';
}

/** @param {() => void} onConnect @param {() => void} onEnter Called for Enter in a field. */
export function startForm(onConnect, onEnter) {
  const kept = recall('form', null, THIS_TAB);
  url.value = kept?.url || base.href;
  protocols.value = kept?.protocols ?? '';
  again.checked = kept?.again ?? false;
  for (const field of [url, protocols, again]) field.addEventListener('input', keepForm);
  byId('connection-form').addEventListener('submit', (event) => {
    event.preventDefault();
    onConnect();
  });
  for (const field of [url, protocols]) {
    field.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.isComposing) return;
      event.preventDefault();
      onEnter();
    });
  }
  byId('save-form').addEventListener('submit', (event) => {
    event.preventDefault();
    save();
  });
  offerUrls([]);
  onLanguage(showSaved);
}
