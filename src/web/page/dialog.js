// Questions that are asked before something is changed.

import { h } from './dom.js';
import { number } from './format.js';
import { fail, linesOf, say } from './notice.js';

let questions = 0;

/**
 * Asks whether to go on, and does it: `act` runs once the operator has agreed, and the dialog
 * stays, with what went wrong, until it has succeeded or they have left. While `act` runs nobody
 * leaves: what the bridge has been asked for cannot be taken back; `act` may show how far it has
 * come. Resolves to what `act` gave, or undefined.
 */
export function ask({ title, body, agree, danger = false, act }) {
  questions += 1;
  const [titleId, bodyId] = [`question-${questions}`, `question-${questions}-body`];
  const leave = h('button', { type: 'button', onclick: () => dialog.close() }, 'Go back');
  const go = h('button', { type: 'submit', class: danger ? 'primary danger' : 'primary' }, agree);
  const trouble = h('div', { class: 'bad', role: 'alert' });
  const progress = h('progress', { 'aria-label': 'Working', hidden: true });
  const headway = h('p', { class: 'note', hidden: true });
  const advance = (done, all) => {
    progress.max = all;
    progress.value = done;
    headway.textContent = `${number(done)} of ${number(all)}`;
    headway.hidden = false;
  };
  let [busy, result] = [false, undefined];
  const work = (begins) => {
    busy = begins;
    go.disabled = begins;
    leave.disabled = begins;
    progress.hidden = !begins;
    progress.removeAttribute('value');
    headway.hidden = true;
    // Wherever the focus has gone: a button that is disabled loses it.
    if (begins) {
      document.addEventListener('keydown', stay, true);
    } else {
      document.removeEventListener('keydown', stay, true);
      if (dialog.open) go.focus();
    }
  };
  const stay = (event) => {
    // A question about the token may lie above this one.
    const here = dialog.contains(document.activeElement) || document.activeElement === document.body;
    if (here && event.key === 'Escape') event.preventDefault();
  };
  const form = h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      if (busy) return;
      work(true);
      trouble.replaceChildren();
      try {
        result = await act({ form, advance, relabel: (text) => { go.textContent = text; } });
      } catch (error) {
        trouble.replaceChildren(...linesOf(error).map((line) => h('p', line)));
        // An operator who went elsewhere meanwhile has not seen it.
        if (!dialog.open) fail(error);
        return;
      } finally {
        work(false);
      }
      dialog.close();
    },
  }, h('h2', { id: titleId }, title), h('div', { id: bodyId }, body), progress, headway, trouble, h('div', { class: 'buttons' }, leave, go));
  const dialog = h('dialog', { 'aria-labelledby': titleId, 'aria-describedby': bodyId }, form);
  dialog.oncancel = (event) => {
    if (busy) event.preventDefault();
  };
  const opener = document.activeElement;
  document.body.append(dialog);
  dialog.showModal();
  // To go elsewhere, by the browser's own buttons, is to decline.
  const elsewhere = () => dialog.close();
  addEventListener('hashchange', elsewhere);
  return new Promise((resolve) => {
    dialog.onclose = () => {
      removeEventListener('hashchange', elsewhere);
      if (busy) say('What you have agreed to goes on: look again for what has come of it.');
      dialog.remove();
      // What was pressed may have been redrawn since.
      (opener?.isConnected ? opener : document.querySelector('h1'))?.focus({ preventScroll: true });
      resolve(result);
    };
  });
}
