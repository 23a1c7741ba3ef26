/**
 * The connection of the page: opens it from the form, shows its state, explains how it ended, and opens it again.
 */

import { Connection } from './connection.js';
import { askedProtocols, setUrl, targetUrl, typedUrl, wantsReconnect } from './connectform.js';
import { byId } from './dom.js';
import { explainClose, explainFailure } from './explain.js';
import { onLanguage, t } from './i18n.js';
import { Reconnect } from './reconnect.js';
import { askWhyRefused } from './refusal.js';

/** @typedef {import('./connection.js').Ending} Ending */
/** @typedef {import('./connection.js').State | 'WAITING'} Shown */
/** @typedef {import('./explain.js').Happening} Happening */

const LABELS = { CLOSED: 'connect', CONNECTING: 'cancel', OPEN: 'disconnect', CLOSING: 'closing', WAITING: 'cancel' };

/**
 * @typedef {object} Listeners
 * @property {(state: Shown) => void} onState
 * @property {(happening: Happening) => void} onEvent
 * @property {(data: string | ArrayBuffer) => void} onMessage
 * @property {() => import('./server.js').Server} server
 * @property {() => string} key The API key, if the user has entered one.
 * @property {(url: string) => string} prepare Changes the URL just before it is opened.
 */

export class Session {
  /** @type {Shown} */
  state = 'CLOSED';
  url = '';
  /** @type {string[]} */
  protocols = [];
  #listeners;
  #connection;
  #seconds = 0;
  /** @type {(() => void) | null} What to do once the connection has ended. */
  #next = null;
  #reconnect = new Reconnect(() => this.#open(), (seconds) => {
    this.#seconds = seconds;
    this.#show('WAITING');
  });

  /** @param {Listeners} listeners */
  constructor(listeners) {
    this.#listeners = listeners;
    this.#connection = new Connection({
      onState: (state) => this.#show(state),
      onOpened: (socket, milliseconds) => this.#opened(socket, milliseconds),
      onMessage: listeners.onMessage,
      onClosed: (ending) => this.#closed(ending),
    });
    onLanguage(() => this.#show(this.state));
  }

  get bufferedAmount() {
    return this.#connection.bufferedAmount;
  }

  /** @param {string | ArrayBuffer} data */
  send(data) {
    this.#connection.send(data);
  }

  /** Connect to what the form says; or end the connection, or the waiting for one. */
  toggle() {
    if (this.state === 'CLOSED') this.#connectToForm();
    else this.disconnect();
  }

  /** Enter in the form connects to what it says now, even if there is a connection to something else. */
  enter() {
    if ((this.state === 'OPEN' || this.state === 'WAITING') && this.#hasChanged()) this.connectTo(typedUrl());
    else this.toggle();
  }

  #hasChanged() {
    try {
      return targetUrl() !== this.url || String(askedProtocols()) !== String(this.protocols);
    } catch {
      return true;
    }
  }

  /** @param {string} url Connect to a URL of this server, or any other, as if the user had typed it. */
  connectTo(url) {
    const connect = () => {
      setUrl(url);
      this.#connectToForm();
    };
    if (this.state === 'CLOSED') connect();
    else {
      this.#next = connect;
      this.disconnect();
    }
  }

  /** @param {number} [code] @param {string} [reason] */
  disconnect(code, reason) {
    this.#reconnect.cancel();
    if (this.state === 'WAITING') this.#show('CLOSED');
    else this.#connection.disconnect(code, reason);
  }

  #connectToForm() {
    try {
      this.url = targetUrl();
      this.protocols = askedProtocols();
      this.#open();
    } catch (error) {
      this.#listeners.onEvent({ title: t('urlRejected'), details: `${typedUrl()}\n${error}`, mood: 'bad' });
    }
  }

  #open() {
    const asked = this.protocols.length ? t('requestedSubprotocols', { protocols: this.protocols.join(', ') }) : '';
    this.#connection.open(this.#listeners.prepare(this.url), this.protocols);
    this.#listeners.onEvent({ title: t('connectingTo', { url: this.url }), details: asked });
  }

  /** @param {WebSocket} socket @param {number} milliseconds */
  #opened({ protocol, extensions }, milliseconds) {
    const none = t('none');
    this.#reconnect.succeeded();
    this.#listeners.onEvent({
      title: t('connectedTo', { url: this.url, milliseconds: Math.round(milliseconds) }),
      details: t('agreed', { protocol: protocol || none, extensions: extensions || none }),
      mood: 'good',
    });
  }

  /** @param {Ending} ending */
  async #closed(ending) {
    const again = wantsReconnect() && !ending.byUs;
    if (again) queueMicrotask(() => this.#reconnect.schedule());
    this.#listeners.onEvent(await this.#explain({ ...ending, url: this.url }));
  }

  /** @param {Ending} ending @returns {Promise<Happening>} */
  async #explain(ending) {
    if (ending.wasOpen) return explainClose(ending, this.#listeners.server());
    if (ending.byUs) return { title: t('cancelled') };
    return explainFailure(ending, await askWhyRefused(ending.url, this.#listeners.key()));
  }

  /** @param {Shown} state */
  #show(state) {
    this.state = state;
    byId('state').dataset.state = state;
    byId('state-word').textContent = t(`state.${state}`, { seconds: this.#seconds });
    byId('connect').textContent = t(LABELS[state]);
    byId('connect').classList.toggle('primary', state === 'CLOSED');
    this.#listeners.onState(state);
    if (state !== 'CLOSED' || !this.#next) return;
    const next = this.#next;
    this.#next = null;
    queueMicrotask(next);
  }
}

