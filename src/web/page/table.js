// Tables that become a list of cards where there is no room for columns.

import { h } from './dom.js';

/**
 * `columns` are `{ label, cell(row), number?, main?, whole? }`, the last for what is not to
 * be broken into lines; `key(row)` names a row between two drawings. The roles are written out because cards are made by taking the table's own display
 * away, and some browsers take its meaning away with it.
 */
export function table({ caption, columns, rows, key, empty = 'Nothing here.', hideCaption = false }) {
  if (rows.length === 0) return h('p', { class: 'empty' }, empty);
  const head = columns.map(({ label, number }) =>
    h('th', { role: 'columnheader', scope: 'col', class: number ? 'number' : null }, label));
  const body = rows.map((row) => h('tr', { role: 'row', key: key?.(row) }, columns.map(({ label, cell, number, main, whole }) =>
    h('td', { role: 'cell', 'data-label': label, class: [number && 'number', main && 'main', whole && 'whole'].filter(Boolean).join(' ') || null },
      h('div', { class: 'value' }, cell(row))))));
  return h('table', { role: 'table' },
    h('caption', { class: hideCaption ? 'unseen' : null }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head)),
    h('tbody', { role: 'rowgroup' }, body));
}

/** Facts as pairs of a term and its value; a third that is true asks for room. Pairs without a value are left out. */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== false)
    .map(([term, value, wide]) => h('div', { class: wide ? 'wide' : null }, h('dt', term), h('dd', value))));
}
