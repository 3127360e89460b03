// Dialogs that ask for confirmation before a change.

import { h } from './dom.js';
import { number } from './format.js';
import { fail, linesOf, say } from './notice.js';

let questions = 0;

/**
 * Shows a dialog and runs `act` once the operator confirms. After an error the dialog shows the error and stays
 * open, until `act` succeeds or the operator closes the dialog. While `act` runs, the operator cannot close the
 * dialog, since the request cannot be undone. `act` may report its progress. Resolves to the result of `act`, or
 * to undefined.
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
    // The listener is on the document, since a disabled button loses the focus.
    if (begins) {
      document.addEventListener('keydown', stay, true);
    } else {
      document.removeEventListener('keydown', stay, true);
      if (dialog.open) go.focus();
    }
  };
  const stay = (event) => {
    // The dialog for the token may be above this one.
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
        // If the dialog is closed, the operator has not seen the error.
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
  // A change of the address, as by the browser's back button, closes the dialog.
  const elsewhere = () => dialog.close();
  addEventListener('hashchange', elsewhere);
  return new Promise((resolve) => {
    dialog.onclose = () => {
      removeEventListener('hashchange', elsewhere);
      if (busy) say('What you have agreed to goes on: look again for what has come of it.');
      dialog.remove();
      // The element that opened the dialog may have been replaced.
      (opener?.isConnected ? opener : document.querySelector('h1'))?.focus({ preventScroll: true });
      resolve(result);
    };
  });
}
