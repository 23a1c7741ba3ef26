/**
 * The last thing that went wrong, in full, above the messages, until the user has read it or connects.
 */

import { byId } from './dom.js';
import { t } from './i18n.js';

/** @typedef {import('./explain.js').Happening} Happening */

export class Problem {
  #tryUrl = '';

  /** @param {(url: string) => void} onTry Called with the URL that could work instead. */
  constructor(onTry) {
    byId('problem-close').addEventListener('click', () => this.hide());
    byId('problem-action').addEventListener('click', () => {
      this.hide();
      onTry(this.#tryUrl);
    });
  }

  /** @param {Happening} happening */
  show({ title, details = '', tryUrl = '' }) {
    this.#tryUrl = tryUrl;
    byId('problem-title').textContent = title;
    byId('problem-details').textContent = details;
    byId('problem-action').hidden = !tryUrl;
    byId('problem-action').textContent = t('tryUrl', { url: tryUrl });
    byId('problem').hidden = false;
  }

  hide() {
    if (byId('problem').contains(document.activeElement)) byId('list').focus();
    byId('problem').hidden = true;
  }
}
