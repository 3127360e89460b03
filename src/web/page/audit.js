// The audit trail: changes by operators, and reads of bodies.

import { h, show } from './dom.js';
import { get } from './api.js';
import { listing } from './listing.js';
import { link } from './route.js';
import { label } from './states.js';
import { number, words } from './format.js';
import { ago } from './time.js';
import { table } from './table.js';

const NAMES = ['kind', 'who', 'action', 'target', 'event_id'];
const KINDS = [['', 'Changes and readings'], ['change', 'Changes'], ['read', 'Readings of bodies']];

export function open(outlet, route, signal) {
  const fields = new Map();
  const field = (name, text, control) => {
    control.id = `audit-${name}`;
    fields.set(name, control);
    return h('div', { class: 'field' }, h('label', { for: control.id }, text), control);
  };
  const search = (placeholder) => h('input', { type: 'search', placeholder, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none' });
  const apply = (query) => {
    const address = link('audit', null, query);
    if (location.hash === address) list.refresh();
    else location.hash = address;
  };
  const form = h('form', {
    class: 'filters', role: 'search', 'aria-label': 'Filters',
    onsubmit: (event) => {
      event.preventDefault();
      apply(Object.fromEntries([...fields].map(([name, control]) => [name, control.value.trim()])));
    },
  }, h('div', { class: 'fields' },
    field('kind', 'What', h('select', KINDS.map(([value, text]) => h('option', { value }, text)))),
    field('who', 'Token', search('any, or admin_token')), field('action', 'Action', search('any, or retry')),
    field('target', 'Target', search('any')), field('event_id', 'Event id', search('its whole id')),
    h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'primary' }, 'Search'),
      h('button', { type: 'button', onclick: () => apply({}) }, 'Clear'))));
  const fill = (query) => { for (const [name, control] of fields) control.value = query[name] ?? ''; };
  const results = h('section', { 'aria-label': 'Entries found' });
  show(outlet, h('h1', { tabindex: -1 }, 'Audit'), form, results);
  fill(route.query);
  const list = listing({
    outlet: results, signal, query: route.query, one: 'entry', many: 'entries',
    fetch: async (query, cursor) => {
      const asked = Object.fromEntries(NAMES.map((name) => [name, query[name]]));
      const { entries, next_cursor: next } = await get('audit', { query: { ...asked, limit: 50, cursor }, signal });
      return { items: entries, next };
    },
    draw: (entries) => table({
      caption: 'Entries, newest first', hideCaption: true, rows: entries, key: ({ id }) => String(id),
      columns: [
        { label: 'When', main: true, whole: true, cell: ({ at }) => ago(at) },
        { label: 'Who', cell: ({ who, client, peer }) => [who ?? 'no token', h('span', { class: 'note' }, ` by ${client}, from ${peer ?? 'unknown'}`)] },
        { label: 'Action', whole: true, cell: ({ action }) => words(action) },
        { label: 'About', cell: about },
        { label: 'Count', number: true, cell: ({ count }) => number(count) },
        { label: 'Outcome', whole: true, cell: ({ outcome }) => label(outcome === 'done' ? 'good' : 'warn', words(outcome)) },
      ],
    }),
    empty: 'No entry matches.',
  });
  return {
    title: 'Audit',
    follow(next) {
      fill(next.query);
      list.follow(next.query);
    },
  };
}

function about({ target, stream, event_id: id, filter }) {
  const parts = [
    id && h('a', { class: 'id', href: link('events', id) }, id),
    target && `target ${target}`, stream && `stream ${stream}`, filter && filter !== '{}' && h('code', { class: 'long' }, filter),
  ].filter(Boolean);
  return parts.length ? parts.flatMap((part, index) => (index ? [', ', part] : [part])) : 'all';
}
