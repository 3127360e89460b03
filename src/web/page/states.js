// The states of a delivery, and what an operator may do in each (the bridge decides; this is what the page offers).

import { h } from './dom.js';
import { link } from './route.js';
import { ago } from './time.js';

/** Every state with its look and its meaning. */
export const STATES = {
  pending: ['calm', 'waits for its turn'],
  sending: ['calm', 'on the wire now'],
  retrying: ['warn', 'failed, and will be tried again'],
  held: ['warn', 'the outcome of an attempt is unknown: an operator decides'],
  delivered: ['good', 'acknowledged by the target'],
  dead: ['bad', 'given up: an operator decides'],
  closed: ['done', 'an operator has said that nothing more is needed'],
  cancelled: ['done', 'an operator has decided that it is not to be sent'],
};

const SETTLED = ['delivered', 'dead', 'closed', 'cancelled'];

export function settled(state) {
  return SETTLED.includes(state);
}

/** A state as a small label. */
export function badge(state, text = state) {
  const [look, meaning] = STATES[state] ?? ['calm', ''];
  return h('span', { class: `badge ${look}`, title: meaning }, text);
}

/** A label of any kind: `look` is calm, good, warn, bad or done. */
export function label(look, text, title) {
  return h('span', { class: `badge ${look}`, title }, text);
}

/** What a delivery waits for, or null: the parts of a text. */
export function nextTry(next) {
  if (!next) return null;
  const at = next.at ? ago(next.at) : 'soon';
  return {
    place: ['at once, as soon as there is a place on the wire'],
    time: [at],
    retry_after: [at, ', when the target’s Retry-After is over'],
    probe: [at, ', by a probe of the target’s breaker'],
    event: ['after ', h('a', { class: 'long', href: link('events', next.event_id) }, next.event_id), ', the event before it of the same object'],
    pause: ['when its target is resumed'],
    operator: ['when an operator decides'],
    target: ['when its target is configured'],
  }[next.waits_for] ?? [next.waits_for];
}

/** What an operator can do with a delivery. */
export const ACTIONS = {
  retry: {
    verb: 'Retry', done: 'retried', from: ['dead', 'cancelled', 'closed', 'retrying'],
    means: 'It is sent again at once. Attempts go on counting, and the time after which it is given up starts anew.',
  },
  release: {
    verb: 'Release', done: 'released', from: ['held'],
    means: 'It is sent again although it is unknown whether the last attempt arrived: the target may see the event twice.',
  },
  close: {
    verb: 'Close', done: 'closed', from: ['held'],
    means: 'Nothing more is sent. Right once you know that the target has the event.',
  },
  cancel: {
    verb: 'Cancel', done: 'cancelled', from: ['pending', 'retrying', 'held', 'dead'], danger: true,
    means: 'It is not sent to this target any more, unless an operator retries it.',
  },
  replay: {
    verb: 'Replay', done: 'replayed', from: ['delivered', 'closed', 'cancelled', 'dead'],
    means: 'The event is sent once more, marked with the header pepay-bridge-replay so that the target can tell.',
  },
};

/** Why `action` is not possible for a delivery in `state`, or null if it is. */
export function refusal(action, state) {
  const { verb, from } = ACTIONS[action];
  if (from.includes(state)) return null;
  return `${verb} is for deliveries that are ${either(from)}; this one is ${state}.`;
}

function either(names) {
  return names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

/**
 * A button that stays within reach when it cannot be used, and then says why. `reason` is null
 * if it can.
 */
export function button({ text, reason = null, onclick, ...attributes }) {
  return h('button', {
    type: 'button', ...attributes, 'aria-disabled': reason ? 'true' : null, title: reason,
    onclick: reason ? () => explain(reason) : onclick,
  }, text);
}

/** Set by the page: where reasons are said. */
let explain = () => {};
export function explainBy(say) {
  explain = say;
}
