/**
 * The light and the dark theme: the system's, until the user chooses one.
 */

import { byId } from './dom.js';
import { onLanguage, t } from './i18n.js';
import { recall, remember } from './preferences.js';

const CHOICES = ['auto', 'light', 'dark'];
const SIGNS = { auto: '◐', light: '☀', dark: '☾' };

/** Let the button go through the themes. */
export function offerThemes() {
  const button = byId('theme');
  let chosen = CHOICES.includes(recall('theme', '')) ? recall('theme', '') : 'auto';
  const show = () => {
    if (chosen === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.textContent = SIGNS[/** @type {keyof typeof SIGNS} */ (chosen)];
    button.title = button.ariaLabel = t(`theme.${chosen}`);
  };
  button.addEventListener('click', () => {
    chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
    remember('theme', chosen === 'auto' ? null : chosen);
    show();
  });
  onLanguage(show);
}
