// Notices of results, errors and changes, on the screen and for screen readers.

import { h } from './dom.js';

const STAYS = 10_000;
let fading = 0;

/** Shows a success. */
export function say(text) {
  put('said', [text]);
  clearTimeout(fading);
  fading = setTimeout(() => document.getElementById('said').replaceChildren(), STAYS);
}

/** Shows an error, until the operator or the page removes it. */
export function fail(error) {
  if (error.name === 'AbortError') return;
  put('failed', linesOf(error));
}

export function linesOf(error) {
  return error.lines ?? [`The page has failed: ${error.message}`];
}

/** Removes the errors of the previous view. */
export function forget() {
  document.getElementById('failed').replaceChildren();
}

/** Announces a text to screen readers only. The screen shows it elsewhere. */
export function hear(text) {
  document.getElementById('heard').textContent = text;
}

function put(id, lines) {
  const region = document.getElementById(id);
  const away = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Dismiss', onclick: () => region.replaceChildren() }, '✕');
  region.replaceChildren(h('div', { class: 'notice' }, h('div', lines.map((line) => h('p', line))), away));
}
