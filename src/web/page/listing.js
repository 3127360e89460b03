// A list that is loaded page by page.

import { h, show } from './dom.js';
import { hear, linesOf } from './notice.js';
import { counted } from './format.js';

/** The number of short pages that are loaded in a row. Pages can be short, since the bridge limits its work per page. */
const READ_ON = 5;
const FULL = 50;

/**
 * Shows a list in `outlet`. `fetch(query, cursor)` resolves to `{ items, next }`, `draw(items)` returns the
 * elements, and `newer(items, query)` returns the number of newer items.
 */
export function listing({ outlet, signal, query, one, many, fetch, draw, empty, newer = () => 0 }) {
  let [items, next, loading, problem, asked] = [[], null, false, null, 0];

  async function load({ anew, quiet = false }) {
    asked += 1;
    const turn = asked;
    [loading, problem] = [true, null];
    if (!quiet) drawAll();
    let found = anew ? [] : items;
    let cursor = anew ? null : next;
    try {
      const before = found.length;
      for (let pages = 0; pages < READ_ON; pages += 1) {
        const page = await fetch(query, cursor);
        if (turn !== asked || signal.aborted) return;
        found = [...found, ...page.items];
        cursor = page.next;
        if (!cursor || found.length - before >= FULL) break;
      }
      [items, next] = [found, cursor];
      if (!quiet) hear(items.length ? `${counted(items.length, one, many)} shown${next ? ', more can be loaded' : ''}` : empty);
    } catch (error) {
      if (turn !== asked || signal.aborted) return;
      problem = error;
      if (anew) [items, next] = [[], null];
    }
    loading = false;
    drawAll();
  }

  function drawAll() {
    const more = next ? h('button', { type: 'button', key: 'more', onclick: () => load({ anew: false }) },
      items.length ? 'Load more' : 'Search further back') : null;
    const known = items.length
      ? `${counted(items.length, one, many)}${next ? ', and more' : ''}`
      : next ? 'None among the newest that were looked through.' : empty;
    const since = loading ? 0 : newer(items, query);
    show(outlet,
      h('div', { class: 'head list-head', key: 'head' },
        h('p', { class: 'note' }, loading && !items.length ? 'Loading …' : problem ? '' : known),
        h('button', { type: 'button', class: 'quiet', 'aria-disabled': loading ? 'true' : null, onclick: () => loading || load({ anew: true }) }, since ? `Show ${counted(since, 'newer one')}` : 'Refresh')),
      problem ? h('div', { class: 'verdict bad', role: 'alert', key: 'problem' }, linesOf(problem).map((line) => h('p', line))) : null,
      items.length ? h('div', { key: 'items', class: 'card flush' }, draw(items)) : null,
      loading ? h('progress', { 'aria-label': 'Loading', key: 'busy' }) : null,
      more && !loading ? more : null);
  }

  load({ anew: true });
  return {
    /** Shows the items of another query. */
    follow(changed) {
      query = changed;
      [items, next] = [[], null];
      return load({ anew: true });
    },
    refresh: () => load({ anew: true }),
    /** Loads the list again without notice, unless more than one page is shown or a page is loading. */
    keepUp: () => { if (!loading && items.length <= FULL) load({ anew: true, quiet: true }); },
    /** Returns the items that are shown. */
    items: () => items,
    /** Updates the number of newer items. */
    look: drawAll,
  };
}
