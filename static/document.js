/**
 * A page that the server has written in English: its texts in the reader's language, and the buttons in its header.
 *
 * The body names the table of its texts; elements with data-say hold one each.
 */

import { byId } from './dom.js';
import { applyLanguage, offerLanguages, onLanguage, readTable, say, speak } from './i18n.js';
import { offerThemes } from './theme.js';

const found = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-say]'));
const texts = [...found].map((one) => /** @type {const} */ ([one, one.textContent ?? '']));

onLanguage(() => {
  for (const [one, text] of texts) one.textContent = say(text);
});
await speak({ zh: readTable(/** @type {string} */ (document.body.dataset.texts)) });
offerThemes();
offerLanguages(byId('language'));
applyLanguage();
byId('preferences').hidden = false;
