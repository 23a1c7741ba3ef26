/**
 * Close the connection with a code and a reason of the user's choice.
 */

import { byId } from './dom.js';
import { t } from './i18n.js';

const MAX_REASON_BYTES = 123;

/** @param {(code: number, reason: string) => void} close */
export function offerClosing(close) {
  /** @type {HTMLInputElement} */ const code = byId('close-code');
  /** @type {HTMLInputElement} */ const reason = byId('close-reason');
  const check = () => {
    const chosen = code.valueAsNumber;
    const allowed = chosen === 1000 || chosen >= 3000 && chosen <= 4999;
    code.setCustomValidity(allowed ? '' : t('badCloseCode'));
    const long = new TextEncoder().encode(reason.value).length > MAX_REASON_BYTES;
    reason.setCustomValidity(long ? t('badCloseReason') : '');
  };
  code.addEventListener('input', check);
  reason.addEventListener('input', check);
  byId('close-form').addEventListener('submit', (event) => {
    event.preventDefault();
    close(code.valueAsNumber, reason.value);
  });
}
