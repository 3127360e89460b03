// Tables, which become a list of cards on narrow screens.

import { h } from './dom.js';

/**
 * Creates a table. `columns` are `{ label, cell(row), number?, main?, whole? }`; a cell with `whole` has no line
 * breaks. `key(row)` identifies a row between two updates. The roles are explicit, since cards change the display of
 * the table's elements, and some browsers then drop their roles.
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

/** Returns facts as a list of terms and values. A true third item makes a pair wide. Pairs without a value are left out. */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== false)
    .map(([term, value, wide]) => h('div', { class: wide ? 'wide' : null }, h('dt', term), h('dd', value))));
}
