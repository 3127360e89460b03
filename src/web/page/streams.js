// The streams: their states, reconnects and backfills.

import { h, show } from './dom.js';
import { get, post } from './api.js';
import { ask } from './dialog.js';
import { listen, live } from './live.js';
import { linesOf, say } from './notice.js';
import { facts } from './table.js';
import { link } from './route.js';
import { button, label } from './states.js';
import { counted, number, words } from './format.js';
import { ago, fromField, now, toField, zone } from './time.js';

const HOUR = 3_600_000;

/** Returns the state of a stream as labels. */
export function streamLabels({ connected, phase, gap, behind }) {
  const looks = { live: 'good', backfilling: 'warn', connecting: 'warn', waiting: 'bad', standby: 'calm', stopped: 'bad' };
  return [
    label(looks[phase] ?? 'calm', words(phase), connected ? 'Connected' : 'Not connected'),
    gap?.state === 'open' ? label('warn', 'filling a gap') : null,
    gap?.state === 'unproven' ? label('bad', 'gap unproven', 'Pepay no longer had everything that was missed') : null,
    behind ? label('warn', 'behind', 'Sweeps keep finding what the stream should have brought') : null,
  ];
}

export function open(outlet, _route, signal) {
  const cards = h('div', { class: 'cards' });
  show(outlet, h('h1', { tabindex: -1 }, 'Streams'), cards);
  let [streams, loading, loadedAt] = [null, false, 0];

  async function load() {
    loading = true;
    try {
      ({ streams } = await get('streams', { signal }));
      draw();
    } catch (error) {
      if (!signal.aborted && !streams) show(cards, h('div', { class: 'verdict bad', role: 'alert' }, linesOf(error).map((line) => h('p', line))));
    } finally {
      [loading, loadedAt] = [false, Date.now()];
    }
  }

  function draw() {
    if (!streams) return show(cards, h('p', { class: 'empty' }, 'Loading …'));
    const fresh = new Map((live.overview?.streams ?? []).map((stream) => [stream.name, stream]));
    const shown = streams.map((stream) => ({ ...stream, ...fresh.get(stream.name) }));
    return show(cards, shown.length ? shown.map(card) : h('p', { class: 'empty' }, 'No stream is configured.'));
  }

  function card(stream) {
    const { name, backfill } = stream;
    return h('section', { class: 'card', 'aria-labelledby': `stream-${name}`, key: name },
      h('div', { class: 'head' }, h('h2', { id: `stream-${name}` }, name, ' ', streamLabels(stream)), h('div', { class: 'buttons' },
        h('button', { type: 'button', 'aria-label': `Reconnect ${name}`, onclick: () => reconnect(name) }, 'Reconnect'),
        button({
          text: 'Backfill …', 'aria-label': `Backfill ${name}`, onclick: () => fillBack(name),
          reason: backfill?.running ? 'A backfill of this stream is running: one at a time.' : null,
        }))),
      progress(backfill),
      facts([
        ['Connection', [stream.connected ? 'connected ' : 'not connected ', ago(stream.since)]],
        ['Trouble', stream.problem, true],
        ['Last event', stream.last_event && [h('a', { class: 'long', href: link('events', stream.last_event.id) }, stream.last_event.id), ', ', ago(stream.last_event.at)]],
        ['Stored up to', stream.cursor && h('code', { class: 'long' }, stream.cursor)],
        ['Accounted for', stream.gap?.state === 'unproven'
          ? [`after ${stream.gap.after}${stream.gap.before ? `, before ${stream.gap.before}` : ''}: compare with Pepay by hand, or backfill. Found `, ago(stream.gap.at)]
          : stream.gap?.state === 'open' ? 'a gap is being filled' : 'everything up to there'],
        ['Reconnects', number(stream.reconnects)],
        ['Last loss', stream.last_disconnect, true],
      ]));
  }

  async function reconnect(name) {
    const done = await ask({
      title: `Reconnect ${name}?`, agree: 'Reconnect stream', act: () => post(`streams/${encodeURIComponent(name)}/reconnect`),
      body: h('p', 'The connection is closed and opened anew with a fresh token. What comes meanwhile is read afterwards: nothing is lost.'),
    });
    if (done) say(`${name} connects anew.`);
  }

  async function fillBack(name) {
    const from = h('input', { type: 'datetime-local', step: 1, id: 'backfill-from', value: toField(new Date(now() - HOUR).toISOString()), required: true });
    const after = h('input', { type: 'text', id: 'backfill-after', placeholder: 'evt_…', spellcheck: 'false', autocomplete: 'off', disabled: true, required: true });
    const fields = [
      h('div', { class: 'field' }, h('label', { for: 'backfill-from' }, `Time (${zone()})`), from),
      h('div', { class: 'field', hidden: true }, h('label', { for: 'backfill-after' }, 'Event id'), after),
    ];
    const way = (value, text, checked) => h('label', { class: 'choice' }, h('input', {
      type: 'radio', name: 'way', value, checked,
      onchange: () => {
        [from.disabled, after.disabled] = [value === 'after', value === 'from'];
        [fields[0].hidden, fields[1].hidden] = [from.disabled, after.disabled];
      },
    }), text);
    const done = await ask({
      title: `Backfill ${name}?`, agree: 'Start backfill',
      body: [
        h('p', 'Everything from there to now is read from Pepay by REST. What is held already is not stored or sent again.'),
        h('fieldset', h('legend', 'Begin'), way('from', 'at a time', true), way('after', 'after an event')),
        fields,
      ],
      act: () => post(`streams/${encodeURIComponent(name)}/backfill`, after.disabled ? { from: fromField(from.value) } : { after: after.value.trim() }),
    });
    if (!done) return;
    say(`The backfill of ${name} has started.`);
    load();
  }

  listen(() => {
    draw();
    // While a backfill runs, the list of streams is read again, at most once a second.
    const running = streams?.some(({ backfill }) => backfill?.running);
    if (running && !loading && Date.now() - loadedAt > 1000) load();
  }, signal);
  draw();
  load();
  return { title: 'Streams' };
}

function progress(backfill) {
  if (!backfill) return null;
  const { running, from, read, recorded, started_at: started, ended_at: ended, error } = backfill;
  const counts = `${counted(read, 'event')} read, ${number(recorded)} of them new`;
  if (running) {
    return h('div', { class: 'outcome', key: 'backfill' }, h('p', `Backfill from ${from}: ${counts}, started `, ago(started), '.'),
      h('progress', { 'aria-label': `Backfill: ${counts}` }));
  }
  return h('p', { class: error ? 'outcome bad' : 'outcome good', key: 'backfill' },
    error ? `The backfill from ${from} has failed: ${error}. ` : `The backfill from ${from} is complete: `, `${counts}, `, ago(ended ?? started), '.');
}
