/**
 * On a phone the page shows one of its parts at a time; the buttons at the bottom choose it.
 */

/** @param {string} view */
export function showView(view) {
  document.body.dataset.view = view;
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('.views button'))) {
    button.ariaPressed = String(button.dataset.view === view);
  }
}

/** Let the buttons choose. */
export function offerViews() {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('.views button'))) {
    button.addEventListener('click', () => showView(button.dataset.view ?? 'messages'));
  }
}
