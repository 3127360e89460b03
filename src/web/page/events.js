// The list of events, with search and filters, the newest first.

import { h, show } from './dom.js';
import { get } from './api.js';
import { listen, live } from './live.js';
import { listing } from './listing.js';
import { filterForm, toFilter } from './filters.js';
import { link } from './route.js';
import { replayAll } from './bulk.js';
import { badge, button } from './states.js';
import { bytes } from './format.js';
import { ago } from './time.js';
import { table } from './table.js';

export function open(outlet, route, signal) {
  let { query } = route;
  const filters = filterForm({
    query,
    apply: (given) => {
      const address = link('events', null, given);
      if (location.hash === address) list.refresh();
      else location.hash = address;
    },
  });
  const bulk = h('div', { class: 'bulk', role: 'group', 'aria-label': 'For all that match' });
  const results = h('section', { 'aria-label': 'Events found' });
  show(outlet, h('h1', { tabindex: -1 }, 'Events'), filters.form, bulk, results);
  const list = listing({
    outlet: results, signal, query, one: 'event', many: 'events',
    fetch: async (query, cursor) => {
      const { events, next_cursor: next } = await get('events', { query: { ...toFilter(query), q: query.q, limit: 50, cursor }, signal });
      return { items: events, next };
    },
    draw: (events) => table({
      caption: 'Events, newest first', hideCaption: true, rows: events, key: ({ id }) => id,
      columns: [
        { label: 'Event', main: true, whole: true, cell: ({ id }) => h('a', { class: 'id', href: link('events', id) }, id) },
        { label: 'Type', whole: true, cell: ({ type }) => type },
        { label: 'Object', cell: ({ object_id: id }) => (id ? h('a', { class: 'id cut', href: link('events', null, { object_id: id }), title: `${id}: all events of this object` }, id) : '–') },
        { label: 'Received', whole: true, cell: ({ received_at: received, source }) => [ago(received), h('span', { class: 'note' }, ` by ${source}`)] },
        { label: 'Deliveries', cell: deliveries },
        { label: 'Size', number: true, whole: true, cell: ({ size }) => (size === null ? h('span', { class: 'note', title: 'The payload was removed by retention' }, 'removed') : bytes(size)) },
      ],
    }),
    // Without a filter the number of newer events follows from the sequences, which have no gaps.
    newer: ([newest], query) => (newest && !Object.values(query).some(Boolean) ? Math.max(0, (live.overview?.store.last_sequence ?? 0) - newest.sequence) : 0),
    empty: 'No event matches.',
  });

  function drawBulk() {
    show(bulk, h('span', { class: 'note' }, 'All that match:'), button({
      text: 'Replay all …',
      reason: query.q ? 'Events that are found by a text in the body cannot be replayed at once: leave the text out.' : null,
      onclick: async () => { if (await replayAll(query)) list.refresh(); },
    }));
  }

  drawBulk();
  listen(list.look, signal);
  return {
    title: 'Events',
    follow(next) {
      query = next.query;
      filters.show(query);
      drawBulk();
      list.follow(query);
    },
  };
}

function deliveries({ deliveries: all }) {
  if (!all.length) return h('span', { class: 'note' }, 'no target takes it');
  return h('ul', { class: 'badges' }, all.map(({ target, state, attempts }) =>
    h('li', { key: target }, badge(state, state === 'delivered'
      ? [h('span', { 'aria-hidden': true }, '✓ '), target, h('span', { class: 'unseen' }, ' delivered'), attempts > 1 ? ` (${attempts} tries)` : '']
      : `${target} ${state}${attempts > 1 ? ` (${attempts} tries)` : ''}`))));
}
