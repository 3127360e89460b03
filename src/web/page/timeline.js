// The history of an event, in chronological order.

import { h } from './dom.js';
import { counted, duration, words } from './format.js';
import { at, day } from './time.js';
import { badge, nextTry, settled } from './states.js';

/** The number of attempts per target that are shown at the beginning and at the end. The others are folded. */
const SHOWN = 3;

export function timeline(event, { expanded, expand }) {
  const steps = [...origins(event), ...event.deliveries.flatMap((delivery) => attempts(delivery, expanded, expand))];
  steps.sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const items = steps.map(({ at: time, look, text, note, key }, index) => h('li', { class: look, key },
    h('div', { class: 'when' }, newDay(steps, index) ? h('span', { class: 'day' }, day(time)) : null, at(time)),
    h('div', { class: 'what' }, text, note ? h('span', { class: 'note' }, ' ', note) : null)));
  const open = event.deliveries.filter(({ state }) => !settled(state)).map((delivery) => h('li', { class: 'open', key: `open-${delivery.target}` },
    h('div', { class: 'when' }, 'open'), h('div', { class: 'what' }, h('strong', delivery.target), ' ', badge(delivery.state), ' ', outlook(delivery))));
  return h('section', { class: 'card', 'aria-labelledby': 'timeline', key: 'timeline' }, h('h2', { id: 'timeline' }, 'Timeline'),
    h('ol', { class: 'timeline' }, items, open));
}

function origins(event) {
  const created = { key: 'created', at: event.created, look: 'calm', text: 'Created at Pepay', note: '(to the second)' };
  const stored = event.sightings.map(({ source, origin, at: time, lag_ms: lag }, index) => ({
    key: `sighting-${source}`, at: time, look: index ? 'calm' : 'good',
    text: index
      ? [`Came again by ${source}`, origin ? ` (${origin})` : '', ', ', h('strong', duration(lag)), ' behind the first']
      : [h('strong', `Received by ${source}`), origin ? ` (${origin})` : '', ' and stored'],
    note: index ? null : afterCreation(event.created, time),
  }));
  const conflicts = event.conflicts.map(({ source, origin, received_at: time, type, digest, size }) => ({
    key: `conflict-${source}-${digest}`, at: time, look: 'bad',
    text: [h('strong', 'Another event under this id'), ` came by ${source} (${origin}): ${type}, ${size} bytes`],
    note: 'kept, not delivered',
  }));
  return [created, ...stored, ...conflicts];
}

/**
 * Returns the time since the creation of an event as text. Pepay gives the creation in whole seconds, so a
 * difference below one second is not shown.
 */
function afterCreation(created, time) {
  const ms = Date.parse(time) - Date.parse(created);
  return ms >= 1000 ? `${duration(ms)} after creation` : null;
}

function attempts(delivery, expanded, expand) {
  const { target, attempt_log: log = [], state, settled_at: done } = delivery;
  const folded = !expanded && log.length > 2 * SHOWN + 1;
  const shown = folded ? [...log.slice(0, SHOWN), null, ...log.slice(-SHOWN)] : log;
  const steps = shown.map((attempt) => (attempt ? step(target, attempt) : {
    key: `folded-${target}`, at: log[SHOWN].started_at, look: 'calm',
    text: h('button', { type: 'button', class: 'quiet', onclick: expand }, `${counted(log.length - 2 * SHOWN, 'more attempt')} to ${target}`),
  }));
  if (settled(state) && done) {
    steps.push({
      key: `settled-${target}`, at: done, look: state === 'delivered' ? 'good' : state === 'dead' ? 'bad' : 'done',
      text: [h('strong', target), ' ', badge(state)], note: state === 'dead' ? 'given up: an operator decides' : null,
    });
  }
  return steps;
}

function step(target, { number, started_at: started, duration_ms: took, status, error }) {
  const good = status >= 200 && status < 300 && !error;
  return {
    key: `attempt-${target}-${number}`, at: started, look: good ? 'good' : 'bad',
    text: [`Attempt ${number} to `, h('strong', target), ': ', good ? `answered ${status}` : error ?? (status ? `answered ${status}` : 'no outcome recorded')],
    note: took === null || took === undefined ? null : `after ${duration(took)}`,
  };
}

function outlook({ state, next_try: next }) {
  if (state === 'held') return 'the outcome of the last attempt is unknown: release or close it';
  if (next) return ['next try ', nextTry(next)];
  return words(state);
}

function newDay(steps, index) {
  return index === 0 || day(steps[index].at) !== day(steps[index - 1].at);
}
