// What the page says once, to eyes and to screen readers: results, failures, changes.

import { h } from './dom.js';

const STAYS = 10_000;
let fading = 0;

/** Says that something went well. */
export function say(text) {
  put('said', [text]);
  clearTimeout(fading);
  fading = setTimeout(() => document.getElementById('said').replaceChildren(), STAYS);
}

/** Says what went wrong, until it is put away. */
export function fail(error) {
  if (error.name === 'AbortError') return;
  put('failed', linesOf(error));
}

export function linesOf(error) {
  return error.lines ?? [`The page has failed: ${error.message}`];
}

/** Puts away what went wrong: it was about what is left behind. */
export function forget() {
  document.getElementById('failed').replaceChildren();
}

/** For screen readers only, where the eye sees it elsewhere. */
export function hear(text) {
  document.getElementById('heard').textContent = text;
}

function put(id, lines) {
  const region = document.getElementById(id);
  const away = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Dismiss', onclick: () => region.replaceChildren() }, '✕');
  region.replaceChildren(h('div', { class: 'notice' }, h('div', lines.map((line) => h('p', line))), away));
}
