// One event: its history, and the actions on it.

import { h, show } from './dom.js';
import { get } from './api.js';
import { listen, live } from './live.js';
import { act, replay, verify } from './acts.js';
import { hear, linesOf } from './notice.js';
import { copy, payload } from './payload.js';
import { curl, inText, requestOf } from './request.js';
import { timeline } from './timeline.js';
import { facts, table } from './table.js';
import { link } from './route.js';
import { ACTIONS, badge, button, nextTry, refusal, settled } from './states.js';
import { bytes, counted, duration, number } from './format.js';
import { ago, at } from './time.js';

/** The interval between two reads of an event that is still being delivered, in milliseconds. */
const LOOK_AGAIN = 2_000;
/** The number of attempts that are shown at first. More would push the rest of the page down. */
const FEW = 5;
/** The number of characters of a response that fit into a table. */
const SHORT = 60;

export function open(outlet, { id }, signal) {
  const title = h('div', { class: 'head' }, h('h1', { tabindex: -1, class: 'long' }, id),
    h('button', { type: 'button', class: 'quiet', onclick: () => copy(id) }, 'Copy id'),
    h('button', { type: 'button', class: 'quiet', onclick: () => verify(id) }, 'Verify with Pepay'));
  const body = h('div');
  show(outlet, h('p', { class: 'crumb' }, h('a', { href: link('events') }, 'Events'), ' /'), title, body);
  let [event, loadedAt, loading, expanded] = [null, 0, false, false];
  /** Whether the overview, which has the targets, was known when the event was drawn. */
  let withTargets = false;

  async function load() {
    loading = true;
    try {
      // The body does not change. One read of it leaves one entry in the audit trail.
      const { body } = event ?? {};
      event = await get(`events/${encodeURIComponent(id)}`, { query: event ? { body: false } : {}, signal });
      if (event.size !== null) event.body ??= body ?? null;
      draw();
    } catch (error) {
      if (signal.aborted) return;
      if (!event) show(body, h('div', { class: 'verdict bad', role: 'alert' }, linesOf(error).map((line) => h('p', line))));
    } finally {
      loading = false;
      loadedAt = Date.now();
    }
  }

  function draw() {
    withTargets = live.overview !== null;
    show(body, about(event),
      timeline(event, { expanded, expand: () => { expanded = true; draw(); } }),
      h('h2', { id: 'deliveries', key: 'deliveries-title' }, 'Deliveries'),
      event.deliveries.length || event.routing.length ? null : h('p', { class: 'empty', key: 'none' }, 'No delivery was made.'),
      [...event.deliveries].sort((a, b) => urgency(a) - urgency(b)).map((delivery) => card(event, delivery, load)),
      leftOut(event),
      elsewhere(event, load), payload(event));
  }

  load().then(() => event && hear(`${event.type}, ${event.deliveries.map(({ target, state }) => `${target}: ${state}`).join(', ')}`));
  listen(() => {
    if (event && !withTargets && live.overview) draw();
    const open = event?.deliveries.some(({ state }) => !settled(state));
    if (open && !loading && Date.now() - loadedAt > LOOK_AGAIN) load();
  }, signal);
  return { title: `Event ${id}` };
}

/** Returns the rank of a delivery: those that need an operator come first, settled ones last. */
function urgency({ state }) {
  return ['dead', 'held'].includes(state) ? 0 : settled(state) ? 2 : 1;
}

function about(event) {
  return h('section', { class: 'card', 'aria-label': 'About this event', key: 'about' }, facts([
    ['Type', event.type],
    ['Object', event.object_id && h('a', { href: link('events', null, { object_id: event.object_id }), class: 'long' }, event.object_id)],
    ['Environment', event.environment],
    ['Created', ago(event.created)],
    ['Received', [ago(event.received_at), ` by ${event.source} (${event.origin})`]],
    ['Sequence', number(event.sequence)],
    ['Size', event.size === null ? 'payload removed by retention' : bytes(event.size)],
  ]));
}

/** Returns the targets without a delivery of the event, with the reasons. */
function leftOut({ deliveries, routing }) {
  const others = routing.filter(({ target: name }) => !deliveries.some(({ target }) => target === name));
  return others.length ? h('ul', { class: 'note', key: 'left-out' }, others.map(({ target, mismatch }) => h('li', `No delivery to ${target}: `, mismatch ? ['not matched by its ', h('code', mismatch)] : 'it matches now; when it arrived, the target was not configured or did not match'))) : null;
}

function card(event, delivery, changed) {
  const { target, state, attempts, replays, attempt_log: log } = delivery;
  const heading = `delivery-${target}`;
  return h('section', { class: 'card', 'aria-labelledby': heading, key: `delivery-${target}` },
    h('div', { class: 'head' },
      h('h3', { id: heading }, target, ' ', badge(state)),
      h('div', { class: 'buttons' }, ['retry', 'release', 'close', 'cancel'].map((name) => button({
        text: ACTIONS[name].verb, reason: refusal(name, state), 'aria-label': `${ACTIONS[name].verb} for ${target}`,
        onclick: () => act(name, delivery).then((done) => done && changed()),
      })), button({
        text: 'Replay', 'aria-label': `Replay to ${target}`,
        reason: event.body === null ? 'The payload was removed by retention: there is nothing to send.' : refusal('replay', state),
        onclick: () => replay(event.id, target).then((done) => done && changed()),
      }))),
    facts([
      ['Attempts', number(attempts)],
      ['Replays', replays ? number(replays) : null],
      ['Next try', nextTry(delivery.next_try)],
      ['Settled', delivery.settled_at && ago(delivery.settled_at)],
      ['Last answer', delivery.last_status],
      ['Last error', state === 'delivered' ? null : delivery.last_error, true],
    ]),
    log?.length ? h('details', { class: 'attempts', open: log.length <= FEW, key: 'attempts' }, h('summary', counted(log.length, 'attempt')), attemptTable(event, delivery)) : attempts ? h('p', { class: 'empty' }, 'The attempts were removed by retention.') : null);
}

function attemptTable(event, delivery) {
  const { target, attempt_log: log } = delivery;
  return table({
    caption: `Attempts to deliver to ${target}, newest first`, hideCaption: true, rows: [...log].reverse(), key: ({ number: n }) => String(n),
    columns: [
      { label: 'Attempt', main: true, cell: ({ number: n }) => number(n) },
      { label: 'Started', cell: ({ started_at: started }) => [at(started), h('span', { class: 'note' }, ' ', ago(started))] },
      { label: 'Took', number: true, cell: ({ duration_ms: took }) => duration(took) },
      { label: 'Status', number: true, cell: ({ status }) => status ?? '–' },
      { label: 'Error', cell: ({ error }) => error ?? 'none' },
      { label: 'Answer', cell: ({ answer }) => answered(answer) },
      { label: 'Request', cell: (attempt) => exchange(event, delivery, attempt) },
    ],
  });
}

/** Returns the request of an attempt as text and as a shell command, if the target is configured. */
function exchange(event, delivery, attempt) {
  const { overview } = live;
  const target = overview?.targets.find(({ name }) => name === delivery.target);
  if (!target?.url) return 'unknown';
  const request = requestOf({ event, delivery, attempt, target, version: overview.version });
  return h('details', h('summary', 'Show', h('span', { class: 'unseen' }, ` the request of attempt ${attempt.number}`)),
    h('pre', { class: 'code', tabindex: 0, role: 'region', 'aria-label': `Request of attempt ${attempt.number}` }, inText(request)),
    h('p', { class: 'note' }, event.body === null ? 'Its body was removed by retention.' : `Its body is the payload below, ${bytes(event.size)}.`,
      ' Made anew from the event and the present configuration.'),
    event.body === null ? null : h('button', { type: 'button', onclick: () => copy(curl(request, event)) }, 'Copy as curl', h('span', { class: 'unseen' }, ` attempt ${attempt.number}`)));
}

/** Returns a short response as text, and a long one as a section to open. */
function answered(text) {
  if (!text) return '–';
  if (text.length <= SHORT) return h('code', { class: 'long' }, text);
  return h('details', h('summary', h('code', { class: 'long' }, `${text.slice(0, SHORT)}…`)), h('pre', { class: 'code', tabindex: 0, role: 'region', 'aria-label': 'Answer' }, text));
}

/** Returns a button for each target without a delivery of the event, which replays the event to that target. */
function elsewhere(event, changed) {
  const known = (live.overview?.targets ?? []).map(({ name }) => name);
  const others = known.filter((name) => !event.deliveries.some(({ target }) => target === name));
  if (!others.length || event.body === null) return null;
  return h('div', { class: 'bulk', key: 'elsewhere' }, h('span', { class: 'note' }, 'No delivery was made to:'), others.map((name) => h('button', {
    type: 'button', key: name, onclick: () => replay(event.id, name).then((done) => done && changed()),
  }, h('span', { class: 'unseen' }, 'Send to '), name)));
}
