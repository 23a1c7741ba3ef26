/**
 * The faults of the server as a form: choose one, set its parameters, connect to it.
 *
 * Rule 1: names, limits and texts are the server's; the texts may be translated.
 */

import { byId, element } from './dom.js';
import { onLanguage, say, t } from './i18n.js';

/**
 * @typedef {object} Parameter
 * @property {string} name
 * @property {string} type
 * @property {string | number} default
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {string[]} [choices]
 * @property {string} description
 */

/** @typedef {{path: string, name?: string, group: string, summary: string, right?: string, parameters: Parameter[]}} Fault */

export class Faults {
  /** @type {HTMLSelectElement} */ #choice = byId('fault');
  /** @type {Fault[]} */ #faults = [];
  /** @type {Parameter[]} */ #common = [];
  /** @type {Record<string, string>} */ #titles = {};
  #use;

  /** @param {(path: string) => void} use Connects to a path of the server. */
  constructor(use) {
    this.#use = use;
    this.#choice.addEventListener('change', () => this.#show());
    byId('fault-form').addEventListener('input', () => this.#showTarget());
    byId('fault-form').addEventListener('focusin', ({ target }) => this.#explain(target));
    byId('fault-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#use(this.#target());
    });
    onLanguage(() => this.#faults.length && this.#offer());
  }

  /** Ask the server for its faults; the panel stays hidden if it has none. */
  async load() {
    const response = await fetch('faults?format=json');
    if (!response.ok) return;
    const { faults, common = [], groups = {} } = await response.json();
    this.#faults = faults;
    this.#common = common;
    this.#titles = groups;
    byId('faults-panel').hidden = false;
    this.#offer();
  }

  #offer() {
    const chosen = this.#choice.value;
    const groups = [...new Set(this.#faults.map(({ group }) => group))];
    this.#choice.replaceChildren(...groups.map((group) => {
      const options = this.#faults.filter((fault) => fault.group === group);
      const label = say(this.#titles[group] ?? group);
      return element('optgroup', { label }, ...options.map(({ path, name }) => new Option(name ?? path, path)));
    }));
    if (chosen) this.#choice.value = chosen;
    this.#show();
  }

  get #chosen() {
    return this.#faults.find(({ path }) => path === this.#choice.value) ?? this.#faults[0];
  }

  #show() {
    const { summary, right, parameters } = this.#chosen;
    const shared = new Set(this.#common.map(({ name }) => name));
    byId('fault-summary').textContent = say(summary);
    byId('fault-right').textContent = right ? t('rightClient', { text: say(right) }) : '';
    byId('fault-about').textContent = '';
    byId('fault-fields').replaceChildren(...parameters.filter(({ name }) => !shared.has(name)).map(field));
    byId('fault-common').replaceChildren(...this.#common.map(field));
    this.#showTarget();
  }

  /** @returns {string} The path, with the parameters that differ from what the server does without them. */
  #target() {
    const query = new URLSearchParams();
    for (const one of /** @type {NodeListOf<HTMLInputElement>} */ (byId('fault-form').querySelectorAll('[data-default]'))) {
      if (one.value !== one.dataset.default) query.set(one.name, one.value);
    }
    return this.#chosen.path + (query.size ? `?${query}` : '');
  }

  /** @param {EventTarget | null} target The field of a parameter: a phone shows no tooltip. */
  #explain(target) {
    const { title = '', name = '' } = /** @type {HTMLInputElement} */ (target);
    if (title) byId('fault-about').textContent = `${name}: ${title}`;
  }

  #showTarget() {
    byId('fault-target').textContent = this.#target();
  }
}

/** @param {Parameter} parameter @returns {HTMLElement} */
function field({ name, type, default: value, minimum, maximum, choices, description }) {
  const id = `fault-${name}`;
  const range = minimum === undefined ? '' : ` ${minimum}–${maximum}`;
  const title = say(description) + range;
  const common = { id, name, title, aria: { describedby: 'fault-about' } };
  const control = choices
    ? element('select', common, ...choices.map((choice) => new Option(choice || '–', choice)))
    : element('input', { ...common, type: type === 'integer' ? 'number' : 'text', autocomplete: 'off' });
  if (type === 'integer') Object.assign(control, { min: String(minimum ?? ''), max: String(maximum ?? '') });
  Object.assign(control, { value: String(value ?? '') });
  control.dataset.default = String(value ?? '');
  return element('div', { className: 'field' }, element('label', { htmlFor: id, title }, name), control);
}
