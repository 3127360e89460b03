// Questions that are asked before something is changed.

import { h } from './dom.js';
import { linesOf } from './notice.js';

let questions = 0;

/**
 * Asks whether to go on, and does it: `act` runs once the person has agreed, and the dialog
 * stays, with what went wrong, until it has succeeded or they have left. Resolves to what `act`
 * gave, or undefined.
 */
export function ask({ title, body, agree, danger = false, act }) {
  questions += 1;
  const [titleId, bodyId] = [`question-${questions}`, `question-${questions}-body`];
  const leave = h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
  const go = h('button', { type: 'submit', class: danger ? 'primary danger' : 'primary' }, agree);
  const trouble = h('div', { class: 'bad', role: 'alert' });
  const busy = h('progress', { 'aria-label': 'Working', hidden: true });
  let result;
  const form = h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      if (go.disabled) return;
      go.disabled = true;
      busy.hidden = false;
      trouble.replaceChildren();
      try {
        result = await act({ form, relabel: (text) => { go.textContent = text; } });
        dialog.close();
      } catch (error) {
        trouble.replaceChildren(...linesOf(error).map((line) => h('p', line)));
      }
      busy.hidden = true;
      go.disabled = false;
    },
  }, h('h2', { id: titleId }, title), h('div', { id: bodyId }, body), busy, trouble, h('div', { class: 'buttons' }, leave, go));
  const dialog = h('dialog', { 'aria-labelledby': titleId, 'aria-describedby': bodyId }, form);
  const opener = document.activeElement;
  document.body.append(dialog);
  dialog.showModal();
  // Whoever goes elsewhere, by the browser's own buttons, does not agree.
  const elsewhere = () => dialog.close();
  addEventListener('hashchange', elsewhere);
  return new Promise((resolve) => {
    dialog.onclose = () => {
      removeEventListener('hashchange', elsewhere);
      dialog.remove();
      // What was pressed may have been redrawn since.
      (opener?.isConnected ? opener : document.querySelector('h1'))?.focus({ preventScroll: true });
      resolve(result);
    };
  });
}
