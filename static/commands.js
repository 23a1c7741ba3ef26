/**
 * The commands of the server, as buttons.
 */

import { byId, element } from './dom.js';
import { onLanguage, t } from './i18n.js';

/** @typedef {import('./server.js').Server} Server */

/** @param {(text: string) => void} send @returns {{offer: (server: Server) => void, enable: (open: boolean) => void}} */
export function offerCommands(send) {
  const group = byId('commands');
  let isOpen = false;
  /** @param {Server} server */
  const offer = (server) => {
    group.replaceChildren(...server.commands.map(({ name, help }) => {
      const button = element('button', { type: 'button', title: help, disabled: !isOpen }, name);
      button.addEventListener('click', () => send(name));
      return button;
    }));
    const note = () => {
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
