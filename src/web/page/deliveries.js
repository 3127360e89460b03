// Deliveries by state, above all those that need an operator, and what can be done with all of them at once.

import { h, show } from './dom.js';
import { get } from './api.js';
import { act, actOnAll } from './acts.js';
import { listing } from './listing.js';
import { listen, live } from './live.js';
import { filterForm, toFilter } from './filters.js';
import { fail } from './notice.js';
import { link } from './route.js';
import { ACTIONS, badge, button } from './states.js';
import { number } from './format.js';
import { ago } from './time.js';
import { table } from './table.js';

const TABS = [['dead', 'Dead'], ['held', 'Held'], ['retrying', 'Retrying'], ['', 'All']];
const REMEDIES = { retry: ['dead', 'retrying'], release: ['held'] };
const BULK = ['retry', 'release', 'close', 'cancel'];

export function open(outlet, route, signal) {
  let { query } = route;
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'States' });
  const filters = filterForm({
    query, without: ['state'],
    apply: (given) => {
      const address = link('deliveries', null, { state: query.state, ...given });
      if (location.hash === address) list.refresh();
      else location.hash = address;
    },
  });
  const bulk = h('div', { class: 'bulk', role: 'group', 'aria-label': 'For all that match' });
  const results = h('section', { 'aria-label': 'Deliveries found' });
  show(outlet, h('h1', { tabindex: -1 }, 'Deliveries'), tabs, filters.form, bulk, results);

  const list = listing({
    outlet: results, signal, query, one: 'delivery', many: 'deliveries',
    fetch: async (asked, cursor) => {
      const { deliveries, next_cursor: next } = await get('deliveries', { query: { ...toFilter(asked), limit: 50, cursor }, signal });
      return { items: deliveries, next };
    },
    draw: (deliveries) => table({
      caption: 'Deliveries, newest first', hideCaption: true, rows: deliveries, key: ({ target, event_id: id }) => `${target} ${id}`,
      columns: [
        { label: 'Event', main: true, whole: true, cell: ({ event_id: id }) => h('a', { class: 'id', href: link('events', id) }, id) },
        { label: 'Target', whole: true, cell: ({ target }) => target },
        { label: 'State', whole: true, cell: ({ state }) => badge(state) },
        { label: 'Type', whole: true, cell: ({ type }) => type },
        { label: 'Object', cell: ({ object_id: id }) => (id ? h('a', { class: 'id cut', href: link('deliveries', null, { state: query.state, object_id: id }), title: `${id}: only this object` }, id) : '–') },
        { label: 'Received', whole: true, cell: ({ received_at: received }) => ago(received) },
        { label: 'Tries', number: true, cell: ({ attempts }) => number(attempts) },
        { label: 'Last answer or error', cell: ({ last_status: status, last_error: error }) => error ?? (status ? `answered ${status}` : 'none') },
        { label: 'Action', whole: true, cell: remedy },
      ],
    }),
    empty: query.state === 'dead' ? 'Nothing is dead: no delivery was given up.' : 'No delivery matches.',
  });

  /** What is most often right for one delivery; the rest is where its event is shown. */
  function remedy(delivery) {
    const action = Object.keys(REMEDIES).find((name) => REMEDIES[name].includes(delivery.state));
    if (!action) return '–';
    const { verb } = ACTIONS[action];
    return h('button', {
      type: 'button', class: 'quiet', 'aria-label': `${verb} delivery of ${delivery.event_id} to ${delivery.target}`,
      onclick: async () => { if (await act(action, delivery)) list.refresh(); },
    }, verb);
  }

  function drawTabs() {
    const count = (state) => (['dead', 'held'].includes(state) ? live.overview?.targets.reduce((sum, target) => sum + (target[state] ?? 0), 0) : null);
    show(tabs, TABS.map(([state, text]) => {
      const counted = count(state);
      return h('a', {
        key: state || 'all', href: link('deliveries', null, { ...query, state }), 'aria-current': (query.state ?? '') === state ? 'page' : null,
      }, text, counted ? h('span', { class: 'count' }, number(counted)) : null);
    }));
  }

  function drawBulk() {
    show(bulk, h('span', { class: 'note' }, 'All that match:'), BULK.map((action) => {
      const { verb, from, danger } = ACTIONS[action];
      const fits = !query.state || from.includes(query.state);
      return button({
        key: action, text: `${verb} all`, class: danger ? 'danger' : null,
        reason: fits ? null : `${verb} is for deliveries that are ${from.join(', ')}; these are ${query.state}.`,
        onclick: async () => {
          try {
            if (await actOnAll(action, query)) list.refresh();
          } catch (error) {
            fail(error);
          }
        },
      });
    }));
  }

  drawTabs();
  drawBulk();
  listen(drawTabs, signal);
  return {
    title: 'Deliveries',
    follow(next) {
      query = next.query;
      filters.show(query);
      drawTabs();
      drawBulk();
      list.follow(query);
    },
  };
}
