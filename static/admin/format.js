/** Numbers, sizes and times as people read them. */

import { language, t } from '../i18n.js';

/** @param {number} value */
export const count = (value) => Math.round(value).toLocaleString(language());

/** @param {number} value A number of things per second; small ones with a digit after the point. */
export const rate = (value) => value.toLocaleString(language(), { maximumFractionDigits: value < 10 ? 1 : 0 });

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** @param {number} value */
export function bytes(value) {
  let [amount, unit] = [value, 0];
  for (; amount >= 999.5 && unit < UNITS.length - 1; unit += 1) amount /= 1000;
  const digits = unit && amount < 10 ? 1 : 0;
  return `${amount.toLocaleString(language(), { maximumFractionDigits: digits })} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function milliseconds(seconds) {
  const value = seconds * 1000;
  return `${value.toLocaleString(language(), { maximumFractionDigits: value < 10 ? 1 : 0 })} ms`;
}

/** @param {number} value 1 is one processor core. */
export const percent = (value) => `${(value * 100).toLocaleString(language(), { maximumFractionDigits: 0 })} %`;

/** @param {number} seconds */
export function duration(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return t('daysHours', { days, hours });
  if (hours) return t('hoursMinutes', { hours, minutes });
  if (minutes) return t('minutesSeconds', { minutes, seconds: Math.floor(seconds % 60) });
  return t('seconds', { seconds: Math.floor(seconds) });
}

/** @param {number} seconds UNIX time. */
export function time(seconds) {
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString(language()) : date.toLocaleString(language(), { dateStyle: 'short', timeStyle: 'medium' });
}
