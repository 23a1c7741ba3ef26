/**
 * The commands of the server, as buttons.
 */

import { byId, element } from './dom.js';
import { onLanguage, say, t } from './i18n.js';

/** @typedef {import('./server.js').Server} Server */

/** @param {(text: string) => void} send @returns {{offer: (server: Server) => void, enable: (open: boolean) => void}} */
export function offerCommands(send) {
  const group = byId('commands');
  let isOpen = false;
  /** @param {Server} server */
  const offer = (server) => {
    const buttons = server.commands.map(({ name, help }) => {
      const button = /** @type {HTMLButtonElement} */ (element('button', { type: 'button', disabled: !isOpen }, name));
      button.addEventListener('click', () => send(name));
      return { button, help };
    });
    group.replaceChildren(...buttons.map(({ button }) => button));
    const note = () => {
      for (const { button, help } of buttons) button.title = say(help);
      byId('commands-note').textContent = server.problem ? t('noCommands', { problem: server.problem }) : t('commandsHint');
    };
    onLanguage(note);
    note();
  };
  /** @param {boolean} open */
  const enable = (open) => {
    isOpen = open;
    for (const button of group.querySelectorAll('button')) button.disabled = !open;
  };
  return { offer, enable };
}
