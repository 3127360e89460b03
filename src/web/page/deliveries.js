// The deliveries by state, with those that need an operator first, and the bulk actions on them.

import { h, show } from './dom.js';
import { get } from './api.js';
import { act, actOnSelected } from './acts.js';
import { actOnAll, moveAll } from './bulk.js';
import { listing } from './listing.js';
import { listen, live, next as nextOverview } from './live.js';
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
const MOVABLE = ['pending', 'retrying', 'held', 'dead'];
/** The longest wait for the counts after a change, in milliseconds. */
const CATCH_UP = 3_000;
/** The shortest time between two reads of a list whose count has changed, in milliseconds. */
const KEEP_UP = 5_000;

export function open(outlet, route, signal) {
  let { query } = route;
  /** The selected deliveries, by key. */
  const selected = new Map();
  /** The count of this state at the last read, and the time of that read. */
  let [counted, readAt] = [null, 0];
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'States' });
  const filters = filterForm({
    query, without: ['state', 'q'],
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
      caption: 'Deliveries, newest first', hideCaption: true, rows: deliveries, key: keyOf,
      columns: [
        { label: 'Select', cell: choice },
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

  /** Shows the list after a change, once the counts include the change. */
  async function changed() {
    selected.clear();
    drawBulk();
    await nextOverview(CATCH_UP);
    if (!signal.aborted) list.refresh();
  }

  function choice(delivery) {
    const key = keyOf(delivery);
    return h('input', {
      type: 'checkbox', checked: selected.has(key), 'aria-label': `Select ${delivery.event_id} to ${delivery.target}`,
      onchange: ({ currentTarget }) => {
        if (currentTarget.checked) selected.set(key, delivery);
        else selected.delete(key);
        drawBulk();
      },
    });
  }

  function selectShown() {
    for (const delivery of list.items()) selected.set(keyOf(delivery), delivery);
    drawBulk();
    list.look();
  }

  /** Reads the list again if its count has changed and the operator is not selecting deliveries. */
  function keepUp() {
    const fresh = countOf(query.state);
    if (fresh === null || selected.size || fresh === counted || Date.now() - readAt < KEEP_UP) return;
    const first = counted === null;
    [counted, readAt] = [fresh, Date.now()];
    if (!first) list.keepUp();
  }

  /** Returns a button for the usual action on a delivery. The view of its event has the other actions. */
  function remedy(delivery) {
    const action = Object.keys(REMEDIES).find((name) => REMEDIES[name].includes(delivery.state));
    if (!action) return '–';
    const { verb } = ACTIONS[action];
    return h('button', {
      type: 'button', class: 'quiet', 'aria-label': `${verb} delivery of ${delivery.event_id} to ${delivery.target}`,
      onclick: async () => { if (await act(action, delivery)) changed(); },
    }, verb);
  }

  function drawTabs() {
    show(tabs, TABS.map(([state, text]) => {
      const here = countOf(state);
      return h('a', {
        key: state || 'all', href: link('deliveries', null, { ...query, state }), 'aria-current': (query.state ?? '') === state ? 'page' : null,
      }, text, here ? h('span', { class: 'count' }, number(here)) : null);
    }));
  }

  function drawBulk() {
    const size = selected.size;
    const some = size ? [
      h('span', { class: 'note', key: 'selected' }, `${number(size)} selected:`),
      BULK.filter((action) => [...selected.values()].some(({ state }) => ACTIONS[action].from.includes(state))).map((action) => button({
        key: `${action}-selected`, text: `${ACTIONS[action].verb} selected`, class: ACTIONS[action].danger ? 'danger' : null,
        onclick: async () => { if (await actOnSelected(action, [...selected.values()])) changed(); },
      })),
      h('button', { type: 'button', class: 'quiet', key: 'none', onclick: () => { selected.clear(); drawBulk(); list.look(); } }, 'Select none'),
    ] : [h('button', { type: 'button', class: 'quiet', key: 'select', onclick: selectShown }, 'Select all shown')];
    show(bulk, some.flat(Infinity), h('span', { class: 'note', key: 'all' }, 'All that match:'), BULK.map((action) => {
      const { verb, from, danger } = ACTIONS[action];
      const fits = !query.state || from.includes(query.state);
      return button({
        key: action, text: `${verb} all`, class: danger ? 'danger' : null,
        reason: fits ? null : `${verb} is for deliveries that are ${from.join(', ')}; these are ${query.state}.`,
        onclick: async () => {
          try {
            if (await actOnAll(action, query)) changed();
          } catch (error) {
            fail(error);
          }
        },
      });
    }), isRemoved(query.target) ? button({
      key: 'move', text: 'Move all …',
      reason: query.state && !MOVABLE.includes(query.state) ? `Move is for deliveries that are ${MOVABLE.join(', ')}; these are ${query.state}.` : null,
      onclick: async () => { if (await moveAll(query)) changed(); },
    }) : null);
  }

  drawTabs();
  drawBulk();
  listen(() => {
    drawTabs();
    drawBulk();
    keepUp();
  }, signal);
  return {
    title: 'Deliveries',
    follow(next) {
      query = next.query;
      selected.clear();
      counted = null;
      filters.show(query);
      drawTabs();
      drawBulk();
      list.follow(query);
    },
  };
}

function keyOf({ target, event_id: id }) {
  return `${target} ${id}`;
}

/** Returns whether deliveries wait for a target of this name that is no longer configured. */
function isRemoved(name) {
  return Boolean(live.overview?.targets.some((target) => target.name === name && target.configured === false));
}

/** Returns the number of deliveries in `state`, or null if the overview does not count them. */
function countOf(state) {
  if (!['dead', 'held'].includes(state) || !live.overview) return null;
  return live.overview.targets.reduce((sum, target) => sum + (target[state] ?? 0), 0);
}
