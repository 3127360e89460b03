// The states of a delivery, and the actions that the page offers in each. The bridge decides whether an action is allowed.

import { h } from './dom.js';
import { link } from './route.js';
import { ago } from './time.js';

/** Each state with its look and its meaning. */
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

/** Returns a state as a small label. */
export function badge(state, text = state) {
  const [look, meaning] = STATES[state] ?? ['calm', ''];
  return h('span', { class: `badge ${look}`, title: meaning }, text);
}

/** Returns a label. `look` is calm, good, warn, bad or done. */
export function label(look, text, title) {
  return h('span', { class: `badge ${look}`, title }, text);
}

/** Returns the condition that a delivery waits for, as the parts of a text, or null. */
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

/** The actions on a delivery. */
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

/** Returns the reason why `action` is not possible for a delivery in `state`, or null if it is possible. */
export function refusal(action, state) {
  const { verb, from } = ACTIONS[action];
  if (from.includes(state)) return null;
  return `${verb} is for deliveries that are ${either(from)}; this one is ${state}.`;
}

function either(names) {
  return names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

/**
 * Creates a button. With a `reason` the button keeps its place in the tab order, does nothing, and explains the
 * reason. Without a reason (null) it works.
 */
export function button({ text, reason = null, onclick, ...attributes }) {
  return h('button', {
    type: 'button', ...attributes, 'aria-disabled': reason ? 'true' : null, title: reason,
    onclick: reason ? () => explain(reason) : onclick,
  }, text);
}

/** The function that shows a reason. The page sets it. */
let explain = () => {};
export function explainBy(say) {
  explain = say;
}
