// The filters of events and deliveries: the form, the query of the address, and the filter of the API.

import { h } from './dom.js';
import { live } from './live.js';
import { STATES } from './states.js';
import { counted, span } from './format.js';
import { fromField, now, toField, zone } from './time.js';

const SOURCES = ['stream', 'webhook', 'backfill', 'reconcile'];
const TYPES = ['commerce.order.*', 'commerce.order.created', 'commerce.order.updated', 'invoice.*', 'invoice.created',
  'invoice.updated', 'invoice_payment.*', 'invoice_payment.created', 'invoice_payment.updated', 'test.ping'];
/** The spans to choose from, in seconds. */
const WITHIN = [900, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400];
const NAMES = ['id_prefix', 'object_id', 'order_id', 'invoice_id', 'type', 'source', 'target', 'state', 'from', 'to'];

/** Converts the query of an address to a filter of the API. A span becomes the time at which it begins. */
export function toFilter({ within, ...query }) {
  const filter = Object.fromEntries(NAMES.filter((name) => query[name]).map((name) => [name, query[name]]));
  if (within && Number(within) > 0 && !filter.from) filter.from = new Date(now() - within * 1000).toISOString();
  return filter;
}

/** Returns a filter in words, for the confirmation of a bulk action. */
export function inWords(query) {
  const words = {
    state: (value) => value, target: (value) => `for target ${value}`, type: (value) => `of type ${value}`,
    object_id: (value) => `of object ${value}`, order_id: (value) => `of order ${value}`,
    invoice_id: (value) => `of invoice ${value}`, id_prefix: (value) => `with an id that begins with ${value}`,
    source: (value) => `brought first by ${value}`, within: (value) => `received in the last ${span(Number(value))}`,
    from: (value) => `received from ${value}`, to: (value) => `received before ${value}`,
  };
  return Object.keys(words).filter((name) => query[name]).map((name) => words[name](query[name])).join(', ');
}

/**
 * Creates a form that shows `query` and calls `apply` with a new one. `without` has the fields that the form leaves
 * out, since the view has other controls for them. Returns `{ form, show(query) }`.
 */
export function filterForm({ query, apply, without = [] }) {
  const ids = new Map();
  const field = (name, text, control) => {
    control.name = name;
    control.id = `filter-${name}`;
    if (without.includes(name)) return null;
    ids.set(name, control);
    return h('div', { class: 'field' }, h('label', { for: control.id }, text), control);
  };
  const choice = (any, values) => h('select', h('option', { value: '' }, any), values.map(([value, text]) => h('option', { value }, text)));
  const search = (placeholder, list) => h('input', { type: 'search', placeholder, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', list });
  const targets = h('datalist', { id: 'targets-known' });
  const within = choice('Any time', [...WITHIN.map((seconds) => [String(seconds), `Last ${span(seconds)}`]), ['range', 'From … to …']]);
  const range = [
    field('from', `From (${zone()})`, h('input', { type: 'datetime-local', step: 1 })),
    field('to', `To, not included (${zone()})`, h('input', { type: 'datetime-local', step: 1 })),
  ];
  const first = [
    field('id_prefix', 'Event id', search('evt_…, or how it begins')),
    field('order_id', 'Order or other object', search('its whole id')),
  ];
  const further = [
    field('invoice_id', 'Invoice, with its payments', search('its whole id')),
    field('object_id', 'Only this object', search('its whole id')),
    field('q', 'Text in the body', search('exactly as Pepay wrote it')),
    field('type', 'Type', search('any, or invoice.*', 'types-known')),
    field('target', 'Target', search('any', 'targets-known')),
    field('state', 'Delivery state', choice('Any', Object.keys(STATES).map((state) => [state, state]))),
    field('source', 'Came first by', choice('Any', SOURCES.map((source) => [source, source]))),
    field('within', 'Received', within),
    ...range,
  ];
  const summary = h('summary', 'More filters');
  const more = h('details', { class: 'more' }, summary, h('div', { class: 'fields' }, further));
  const showRange = () => { for (const part of range) part.hidden = within.value !== 'range'; };
  within.onchange = showRange;

  const form = h('form', {
    class: 'filters', role: 'search', 'aria-label': 'Filters',
    onsubmit: (event) => {
      event.preventDefault();
      apply(read());
    },
  },
  h('div', { class: 'fields first' }, first, h('div', { class: 'buttons' },
    h('button', { type: 'submit', class: 'primary' }, 'Search'),
    h('button', { type: 'button', onclick: () => apply({}) }, 'Clear'))),
  more, targets, h('datalist', { id: 'types-known' }, TYPES.map((type) => h('option', { value: type }))));
  form.addEventListener('focusin', () => {
    const names = (live.overview?.targets ?? []).map(({ name }) => name);
    targets.replaceChildren(...names.map((name) => h('option', { value: name })));
  });

  function read() {
    const given = {};
    for (const [name, control] of ids) given[name] = control.value.trim();
    const { within: chosen, from, to, ...others } = given;
    return chosen === 'range' ? { ...others, from: fromField(from), to: fromField(to) } : { ...others, within: chosen };
  }

  function showQuery(query) {
    for (const [name, control] of ids) control.value = ['from', 'to'].includes(name) ? toField(query[name]) : query[name] ?? '';
    if (query.from || query.to) within.value = 'range';
    showRange();
    const used = ['invoice_id', 'object_id', 'q', 'type', 'target', 'state', 'source', 'within', 'from', 'to'].filter((name) => ids.has(name) && query[name]).length;
    summary.textContent = used ? `More filters, ${counted(used, 'in use', 'in use')}` : 'More filters';
    if (used) more.open = true;
  }
  showQuery(query);
  return { form, show: showQuery };
}
