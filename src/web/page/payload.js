// The payload of an event: shown with indentation, and copied and downloaded byte for byte.

import { h } from './dom.js';
import { request } from './api.js';
import { fail, say } from './notice.js';
import { counted } from './format.js';

/** The number of characters of a payload that are shown. The whole payload can be copied and downloaded. */
const SHOWN = 1 << 20;
/** The number of values up to which a payload is coloured. */
const COLOURED = 5_000;
/** The deepest level with its own indentation. */
const DEEPEST = 40;

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Returns the card with the payload of an event. */
export function payload({ id, body, size, body_sha256: sha256 }) {
  const title = h('h2', { id: 'payload' }, 'Payload');
  if (body === null || body === undefined) {
    return h('section', { class: 'card', 'aria-labelledby': 'payload', key: 'payload' }, title,
      h('p', { class: 'empty' }, 'Removed by retention (store.payload_retention). The id is kept, so that the event is not taken in twice.'));
  }
  return h('section', { class: 'card', 'aria-labelledby': 'payload', key: 'payload' },
    h('div', { class: 'head' }, title, h('div', { class: 'buttons' },
      h('button', { type: 'button', onclick: () => copy(body) }, 'Copy'),
      h('button', { type: 'button', onclick: () => download(id) }, 'Download'))),
    h('pre', { class: 'code', tabindex: 0, role: 'region', 'aria-label': 'Payload, indented for reading' }, indented(body.slice(0, SHOWN))),
    body.length > SHOWN ? h('p', { class: 'warn' }, `Only the first ${counted(SHOWN, 'character')} are shown.`) : null,
    h('p', { class: 'note' }, `Indented here. Copy and download give the ${size} bytes as Pepay sent them`,
      sha256 ? [', SHA-256 ', h('code', { class: 'long' }, sha256)] : null, '.'));
}

/**
 * Adds line breaks and indentation to the text of a JSON value. Numbers keep their digits and members their order,
 * which a parser would not guarantee.
 */
export function indented(text) {
  const pieces = [];
  let depth = 0;
  const tokens = text.match(TOKEN) ?? [];
  const isColoured = tokens.length <= COLOURED;
  tokens.forEach((token, index) => {
    const [before, after] = [tokens[index - 1], tokens[index + 1]];
    const line = () => pieces.push(`\n${'  '.repeat(Math.min(depth, DEEPEST))}`);
    if (token === '{' || token === '[') {
      depth += 1;
      pieces.push(token);
      if (after !== '}' && after !== ']') line();
    } else if (token === '}' || token === ']') {
      depth = Math.max(0, depth - 1);
      if (before !== '{' && before !== '[') line();
      pieces.push(token);
    } else if (token === ',') {
      pieces.push(token);
      line();
    } else if (token === ':') {
      pieces.push(': ');
    } else if (!isColoured) {
      pieces.push(token);
    } else {
      pieces.push(h('span', { class: token.startsWith('"') ? (after === ':' ? 'name' : 'text') : 'value' }, token));
    }
  });
  return isColoured ? pieces : [pieces.join('')];
}

/** Copies `text`, even if the browser offers no clipboard because the page came without TLS. */
export async function copy(text) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyBySelection(text);
    say('Copied.');
  } catch (error) {
    fail(error);
  }
}

function copyBySelection(text) {
  const area = h('textarea', { class: 'unseen', 'aria-hidden': true });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
  focused?.focus();
}

async function download(id) {
  try {
    const answer = await request(`events/${encodeURIComponent(id)}/body`);
    const address = URL.createObjectURL(await answer.blob());
    h('a', { href: address, download: `${id}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (error) {
    fail(error);
  }
}
