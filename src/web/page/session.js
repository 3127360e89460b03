// The admin token. The page asks for it when the bridge requires it, and keeps it for this tab only.

import { h } from './dom.js';

const KEY = 'pepay-bridge.token';
/** The promise of the open dialog for the token, if there is one. */
let asking = null;
/** Whether the operator has declined to give a token. */
let declined = false;

export function token() {
  return sessionStorage.getItem(KEY);
}

/** Shows the button that forgets the token, or the one that asks for it. */
export function showSession() {
  const [forget, give] = ['forget', 'give'].map((id) => document.getElementById(id));
  forget.hidden = !token() || declined;
  give.hidden = !declined;
  forget.onclick = () => {
    sessionStorage.removeItem(KEY);
    location.reload();
  };
  give.onclick = () => location.reload();
}

/**
 * Asks for the token with one dialog, however many requests need it. `refused` is the token that the bridge has
 * refused. Resolves to whether there is another token to try.
 */
export function askToken(refused) {
  if (token() !== refused) return Promise.resolve(true);
  if (declined) return Promise.resolve(false);
  asking ??= ask(refused).finally(() => { asking = null; });
  return asking;
}

function ask(refused) {
  const field = h('input', {
    type: 'password', name: 'token', id: 'token', required: true, autocomplete: 'current-password', spellcheck: 'false',
    'aria-describedby': 'token-note',
  });
  const note = refused
    ? 'The bridge has refused that token.'
    : 'This bridge asks for the admin token (server.admin_token). It is kept in this tab and forgotten when you close it.';
  const dialog = h('dialog', { 'aria-labelledby': 'token-title' },
    h('form', {
      onsubmit: (event) => {
        event.preventDefault();
        sessionStorage.setItem(KEY, field.value.trim());
        dialog.close('given');
      },
    },
    h('h2', { id: 'token-title' }, 'Admin token'),
    h('p', { id: 'token-note', class: refused ? 'bad' : null }, note),
    h('label', { for: 'token' }, 'Token'), field,
    h('div', { class: 'buttons' },
      h('button', { type: 'button', onclick: () => dialog.close() }, 'Not now'),
      h('button', { type: 'submit', class: 'primary' }, 'Continue'))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      dialog.remove();
      declined = dialog.returnValue !== 'given';
      showSession();
      resolve(!declined);
    };
  });
}
