/**
 * The light and the dark theme: the system's, until the user chooses one.
 */

import { byId } from './dom.js';
import { language, onLanguage } from './i18n.js';
import { recall, remember } from './preferences.js';

const CHOICES = ['auto', 'light', 'dark'];
/** @type {Record<string, Record<string, string>>} */
const TITLES = {
  en: { auto: "Theme: the system's", light: 'Theme: light', dark: 'Theme: dark' },
  zh: { auto: '主题：跟随系统', light: '主题：浅色', dark: '主题：深色' },
};
const SIGNS = { auto: '◐', light: '☀', dark: '☾' };

/** @param {() => void} listener Called when the colours have changed. */
export function onTheme(listener) {
  addEventListener('themechange', listener);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', listener);
}

/** Let the button go through the themes. */
export function offerThemes() {
  const button = byId('theme');
  let chosen = CHOICES.includes(recall('theme', '')) ? recall('theme', '') : 'auto';
  const show = () => {
    if (chosen === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    button.textContent = SIGNS[/** @type {keyof typeof SIGNS} */ (chosen)];
    dispatchEvent(new Event('themechange'));
    button.title = button.ariaLabel = TITLES[language()][chosen];
  };
  button.addEventListener('click', () => {
    chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
    remember('theme', chosen === 'auto' ? null : chosen);
    show();
  });
  onLanguage(show);
}
