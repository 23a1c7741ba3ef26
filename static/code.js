/**
 * The code panel: shows the connection as a command or a program, to copy.
 */

import { askedProtocols, targetUrl } from './connectform.js';
import { byId } from './dom.js';
import { onLanguage, t } from './i18n.js';
import { recall, remember } from './preferences.js';
import { copyText } from './save.js';
import { SNIPPETS } from './snippets.js';

const COPIED_MS = 1500;

/** Let the user choose the language; the code follows the form and the message. */
export function offerCode() {
  /** @type {HTMLSelectElement} */ const choice = byId('code-language');
  /** @type {HTMLTextAreaElement} */ const message = byId('message');
  choice.replaceChildren(...Object.entries(SNIPPETS).map(([name, { label }]) => new Option(label, name)));
  choice.value = SNIPPETS[recall('code', '')] ? recall('code', '') : 'javascript';
  const show = () => {
    byId('code').textContent = write(choice.value, message.value);
  };
  choice.addEventListener('change', () => {
    remember('code', choice.value);
    show();
  });
  for (const id of ['url', 'protocols', 'message']) byId(id).addEventListener('input', show);
  byId('code-panel').addEventListener('toggle', show);
  byId('code-copy').addEventListener('click', async () => {
    show();
    await copyText(byId('code').textContent ?? '');
    byId('code-copy').textContent = t('copied');
    setTimeout(() => { byId('code-copy').textContent = t('copy'); }, COPIED_MS);
  });
  onLanguage(show);
}

/** @param {string} language @param {string} message */
function write(language, message) {
  try {
    return SNIPPETS[language].write({ url: targetUrl(), protocols: askedProtocols(), message: message || 'hello' });
  } catch {
    return '';
  }
}
