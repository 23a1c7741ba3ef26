/**
 * The faults of the server as a form: choose one, set its parameters, add others, connect to it.
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

/**
 * @typedef {object} Fault
 * @property {string} path
 * @property {string} name
 * @property {string} group
 * @property {string} summary
 * @property {string} right
 * @property {'head' | 'response' | 'open'} stage
 * @property {boolean} ends Whether it ends the connection.
 * @property {Parameter[]} parameters
 */

export class Faults {
  /** @type {HTMLSelectElement} */ #choice = byId('fault');
  /** @type {HTMLSelectElement} */ #more = byId('fault-add');
  /** @type {Fault[]} */ #added = [];
  /** @type {Fault[]} */ #faults = [];
  /** @type {Parameter[]} */ #common = [];
  /** @type {Record<string, string>} */ #titles = {};
  #use;

  /** @param {(path: string) => void} use Connects to a path of the server. */
  constructor(use) {
    this.#use = use;
    this.#choice.addEventListener('change', () => {
      this.#added = [];
      this.#show();
    });
    this.#more.addEventListener('change', () => this.#add(this.#more.value));
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
    byId('fault-summary').textContent = say(summary);
    byId('fault-right').textContent = right ? t('rightClient', { text: say(right) }) : '';
    byId('fault-about').textContent = '';
    byId('fault-fields').replaceChildren(...this.#own(parameters).map((one) => field(one)));
    byId('fault-common').replaceChildren(...this.#common.map((one) => field(one)));
    byId('fault-added').replaceChildren(...this.#added.map((fault) => this.#fieldset(fault)));
    this.#offerMore();
    this.#showTarget();
  }

  /** @param {string} name @returns {boolean} Whether all faults have this parameter. */
  #isCommon(name) {
    return this.#common.some((one) => one.name === name);
  }

  /** @param {Parameter[]} parameters @returns {Parameter[]} */
  #own(parameters) {
    return parameters.filter(({ name }) => !this.#isCommon(name));
  }

  /** Offer the faults that can be added to those of the form. */
  #offerMore() {
    const taken = [this.#chosen, ...this.#added];
    const canBeAdded = this.#faults.filter((fault) => !taken.includes(fault)
      && (fault.stage === 'head' || fault.parameters.some(({ name }) => name === 'after'))
      && !(fault.ends && taken.some(({ ends }) => ends)));
    this.#more.replaceChildren(new Option('–', ''), ...canBeAdded.map(({ name }) => new Option(name, name)));
    byId('fault-more').hidden = this.#chosen.stage === 'response';
  }

  /** @param {string} name */
  #add(name) {
    const fault = this.#faults.find((one) => one.name === name);
    if (!fault) return;
    this.#added.push(fault);
    byId('fault-added').append(this.#fieldset(fault));
    this.#offerMore();
    this.#showTarget();
  }

  /** @param {Fault} fault @returns {HTMLElement} */
  #fieldset(fault) {
    const remove = element('button', { type: 'button', className: 'ghost' }, '×');
    remove.ariaLabel = t('remove', { name: fault.name });
    const fields = this.#own(fault.parameters).map((one) => field(one, `${fault.name}.`));
    const made = element('fieldset', { className: 'added' }, element('legend', {}, fault.name, ' ', remove), ...fields);
    remove.addEventListener('click', () => {
      this.#added = this.#added.filter((one) => one !== fault);
      made.remove();
      this.#offerMore();
      this.#showTarget();
      this.#more.focus();
    });
    return made;
  }

  /** @returns {string} The path, with the parameters that differ from what the server does without them. */
  #target() {
    const { name: first, path } = this.#chosen;
    const query = new URLSearchParams();
    for (const { name, parameters } of this.#added) {
      // `pong` is a parameter of all faults, and `pong.rate` one of the fault `pong`.
      if (this.#isCommon(name)) query.set(`${name}.${parameters[0].name}`, String(parameters[0].default));
      else query.set(name, '');
    }
    for (const one of /** @type {NodeListOf<HTMLInputElement>} */ (byId('fault-form').querySelectorAll('[data-default]'))) {
      if (one.value === one.dataset.default) continue;
      const isClear = !this.#added.length || one.name.includes('.') || this.#isCommon(one.name);
      if (one.name.includes('.')) query.delete(one.name.split('.')[0]);
      query.set(isClear ? one.name : `${first}.${one.name}`, one.value);
    }
    return path + (query.size ? `?${query}` : '');
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

/**
 * @param {Parameter} parameter
 * @param {string} prefix
 * @returns {HTMLElement}
 */
function field({ name: own, type, default: value, minimum, maximum, choices, description }, prefix = '') {
  const name = prefix + own;
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
