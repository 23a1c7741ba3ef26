/**
 * The channel panel: subscribes, and publishes. What the channel carries appears in the list of all messages.
 */

import { Connection } from './connection.js';
import { byId } from './dom.js';
import { explainClose, explainFailure } from './explain.js';
import { onLanguage, t } from './i18n.js';
import { publish } from './publish.js';
import { askWhyRefused } from './refusal.js';
import { base } from './server.js';

/** @typedef {import('./connection.js').Ending} Ending */

/**
 * @typedef {object} Listeners
 * @property {(data: string | ArrayBuffer, channel: string) => void} onMessage
 * @property {(happening: import('./explain.js').Happening, channel: string) => void} onEvent
 * @property {() => import('./server.js').Server} server
 */

export class Channel {
  /** @type {HTMLFormElement} */ #form = byId('channel-form');
  /** @type {HTMLInputElement} */ #name = byId('channel');
  /** @type {HTMLSelectElement} */ #rewind = byId('rewind');
  /** @type {HTMLInputElement} */ #data = byId('data');
  /** @type {HTMLInputElement} */ #key = byId('api-key');
  #listeners;
  #connection;

  /** @param {Listeners} listeners */
  constructor(listeners) {
    this.#listeners = listeners;
    this.#connection = new Connection({
      onState: () => this.#showState(),
      onOpened: () => this.#event({ title: t('subscribedTo', { channel: this.#name.value }), mood: 'good' }),
      onMessage: (data) => listeners.onMessage(data, this.#name.value),
      onClosed: (ending) => this.#closed(ending),
    });
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#connection.state === 'CLOSED') this.#subscribe();
    });
    byId('subscribe').addEventListener('click', () => {
      if (this.#connection.state === 'CLOSED') this.#form.requestSubmit();
      else this.#connection.disconnect();
    });
    byId('publish-form').addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#name.reportValidity()) this.#publish();
    });
    onLanguage(() => this.#showState());
  }

  #showState() {
    const closed = this.#connection.state === 'CLOSED';
    byId('subscribe').textContent = t(closed ? 'subscribe' : 'unsubscribe');
    byId('subscribe').classList.toggle('primary', closed);
    this.#name.readOnly = this.#rewind.disabled = !closed;
  }

  #subscribe() {
    const rewind = this.#rewind.value && `&rewind=${this.#rewind.value}`;
    const query = `channel=${encodeURIComponent(this.#name.value)}${rewind}`;
    this.#connection.open(new URL(`ws?format=raw&${query}`, base).href, []);
  }

  /** @param {Ending} ending */
  async #closed(ending) {
    const channel = this.#name.value;
    if (ending.byUs) return this.#event({ title: t('unsubscribedFrom', { channel }) });
    if (ending.wasOpen) return this.#event(explainClose(ending, this.#listeners.server()));
    const reason = await askWhyRefused(ending.url, this.#key.value);
    this.#event(reason ? { title: t('notSubscribed', { channel }), details: reason, mood: 'bad' } : explainFailure(ending, ''));
  }

  async #publish() {
    const channel = this.#name.value;
    try {
      const details = await publish(this.#key.value, channel, this.#data.value);
      this.#event({ title: t('publishedTo', { channel }), details });
      this.#data.value = '';
    } catch (error) {
      const details = error instanceof Error ? error.message : String(error);
      this.#event({ title: t('notPublished', { channel }), details, mood: 'bad' });
    }
  }

  /** @param {import('./explain.js').Happening} happening */
  #event(happening) {
    this.#listeners.onEvent(happening, this.#name.value);
  }
}
