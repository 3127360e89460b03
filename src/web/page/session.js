// The admin token: asked for when the bridge wants it, kept for this tab only.

import { h } from './dom.js';

const KEY = 'pepay-bridge.token';
/** The answer to the question that is being asked now, if any. */
let asking = null;

export function token() {
  return sessionStorage.getItem(KEY);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
  location.reload();
}

/**
 * Asks for the token, once however many requests need it. `refused` is the one
 * that was tried. Resolves to whether there is another one to try.
 */
export function askToken(refused) {
  if (token() !== refused) return Promise.resolve(true);
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
      document.getElementById('forget').hidden = !token();
      resolve(dialog.returnValue === 'given');
    };
  });
}
