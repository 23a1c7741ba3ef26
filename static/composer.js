/**
 * Write and send a message: text, JSON, bytes as hex or base64, or a file.
 */

import { byId } from './dom.js';
import { encode } from './encode.js';
import { onLanguage, t } from './i18n.js';
import { SentBefore } from './sentbefore.js';

/** @typedef {string | ArrayBuffer} Data */

export class Composer {
  /** @type {HTMLTextAreaElement} */ #field = byId('message');
  /** @type {HTMLSelectElement} */ #type = byId('type');
  /** @type {HTMLInputElement} */ #file = byId('file');
  #before = new SentBefore();
  #send;
  #isOpen;

  /**
   * @param {(data: Data) => void} send
   * @param {() => boolean} isOpen
   */
  constructor(send, isOpen) {
    this.#send = send;
    this.#isOpen = isOpen;
    byId('message-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener('keydown', (event) => this.#onKey(event));
    this.#field.addEventListener('input', () => this.hint());
    this.#type.addEventListener('change', () => this.#showType());
    onLanguage(() => this.hint());
  }

  focus() {
    this.#field.focus();
  }

  /** @returns {Promise<Data | null>} The message as it stands; null, and a hint, if it cannot be sent. */
  async read() {
    if (this.#type.value === 'file') {
      const file = this.#file.files?.[0];
      if (!file) this.hint(t('noFile'));
      return file ? file.arrayBuffer() : null;
    }
    const { data, problem } = encode(this.#type.value, this.#field.value);
    if (problem) this.hint(problem);
    return data ?? null;
  }

  /** @param {string} [problem] Shown instead of the keys. */
  hint(problem = '') {
    const hint = byId('message-hint');
    hint.classList.toggle('wrong', problem !== '');
    hint.textContent = problem || t('keysHint');
    this.#field.ariaInvalid = problem ? 'true' : null;
    if (problem) this.onProblem(problem);
  }

  /** @param {string} problem */
  onProblem = (problem) => { void problem; };

  async #submit() {
    if (!this.#isOpen()) return this.hint(t('notConnected'));
    const data = await this.read();
    if (data === null || !this.#isOpen()) return;
    this.#send(data);
    if (this.#type.value === 'file') return this.hint();
    this.#before.add(this.#type.value, this.#field.value);
    this.#field.value = '';
    this.hint();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    // Enter also ends a composition in Chinese, Japanese or Korean, which must not send.
    if (event.isComposing) return;
    const { selectionStart, selectionEnd, value } = this.#field;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'ArrowUp' && !value.slice(0, selectionStart).includes('\n')) {
      this.#recall(event, this.#before.older({ type: this.#type.value, text: value }));
    } else if (event.key === 'ArrowDown' && !value.slice(selectionEnd).includes('\n')) {
      this.#recall(event, this.#before.newer());
    }
  }

  /** @param {Event} event @param {{type: string, text: string} | null} message */
  #recall(event, message) {
    if (!message) return;
    event.preventDefault();
    this.#type.value = message.type;
    this.#field.value = message.text;
    this.hint();
  }

  #showType() {
    const isFile = this.#type.value === 'file';
    this.#field.hidden = isFile;
    this.#file.hidden = !isFile;
    this.hint();
  }
}

