// The reload of the configuration.

import { h } from './dom.js';
import { post } from './api.js';
import { ask } from './dialog.js';
import { say } from './notice.js';
import { counted, number } from './format.js';
import { link } from './route.js';

/** The result of the last reload from this page. */
let last = null;

export function configuration() {
  return h('section', { class: 'card', 'aria-labelledby': 'configuration', key: 'configuration' },
    h('div', { class: 'head' }, h('h2', { id: 'configuration' }, 'Configuration'),
      h('button', { type: 'button', onclick: reload }, 'Reload …')),
    last ? outcome(last)
      : h('p', { class: 'note' }, 'The file and the secret files are read when the bridge starts and when it is told to.'));
}

async function reload() {
  const done = await ask({
    title: 'Reload the configuration?', agree: 'Reload configuration', act: () => post('reload'),
    body: h('p', 'The file and the secret files are read again. No connection and no event is dropped; if something is wrong with them, nothing changes and you are told what.'),
  });
  if (!done) return;
  last = done;
  say(`The configuration is reloaded: ${counted(done.applied.length, 'change')} applied${done.restart_needed.length ? `, ${done.restart_needed.length} after a restart` : ''}.`);
}

function outcome({ applied, restart_needed: waiting, files, removed_targets: removed }) {
  const mounted = files.filter((file) => file.own_mount).map(({ key }) => `${key} is mounted as a single file: a file that replaces it is not seen. Mount its folder.`);
  return [
    lines('Applied', applied, 'nothing has changed'),
    lines('Takes effect after a restart', waiting, null),
    lines('Warnings', mounted, null),
    lines('Removed targets', removed.map(({ target, backlog, held, dead }) => [
      h('a', { href: link('deliveries', null, { target }) }, target),
      `: ${number(backlog)} pending, ${number(held)} held and ${number(dead)} dead deliveries wait. Move or cancel them.`]), null),
    lines('Files read', files.map(({ key, changed }) => [h('code', { class: 'long' }, key), changed ? ', changed' : ', as before']), null),
  ];
}

function lines(title, texts, nothing) {
  if (!texts.length && !nothing) return null;
  return h('div', { key: title }, h('h3', title), texts.length ? h('ul', { class: 'list' }, texts.map((text) => h('li', text))) : h('p', nothing));
}
