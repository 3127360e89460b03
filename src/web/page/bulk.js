// Bulk actions: each is counted and confirmed first, and its progress is shown.

import { h } from './dom.js';
import { get, post } from './api.js';
import { ask } from './dialog.js';
import { live } from './live.js';
import { say } from './notice.js';
import { counted } from './format.js';
import { ACTIONS } from './states.js';
import { inWords, toFilter } from './filters.js';
import { pause } from './time.js';

/** The interval between two queries for the progress of a bulk change, in milliseconds. */
const PACE = 500;

const deliveries = (count) => counted(count, 'delivery', 'deliveries');
const events = (count) => counted(count, 'event');

/**
 * Applies `action` to every delivery that `query` matches. The function counts first, and changes exactly
 * the number that the operator has confirmed. Resolves to whether the change was made.
 */
export async function actOnAll(action, query) {
  const { verb, means, danger, done } = ACTIONS[action];
  // The filter is fixed here, so that the count and the change use the same one.
  const call = { action, body: { filter: toFilter(query) } };
  const patience = setTimeout(() => say('Counting what matches …'), 1000);
  const { matching } = await count(call).finally(() => clearTimeout(patience));
  if (matching === 0) {
    say(`No delivery that matches can be ${done}.`);
    return false;
  }
  const changed = await confirmCounted(call, {
    matching, verb, danger, many: deliveries, title: `${verb} in bulk?`,
    about: (number) => [h('p', number, `: ${inWords(query) || 'all there are'}.`), h('p', means)],
  });
  if (!changed) return false;
  say(`${deliveries(changed.changed)} ${done}.`);
  return true;
}

/** Replays the events that `query` matches to a target that the operator selects. Resolves to whether the replay was made. */
export async function replayAll(query) {
  const known = targetsThat(({ configured }) => configured !== false);
  const missing = h('input', { type: 'checkbox', name: 'missing' });
  const chosen = await ask({
    title: 'Replay events to a target?', agree: 'Count events',
    body: [
      h('p', 'Events: ', inWords(query) || 'all there are', '.'),
      targetField('To target', known, known.includes(query.target) ? query.target : null),
      h('label', { class: 'choice' }, missing, 'Only what is missing: events that the target takes and never had'),
      h('p', { class: 'note' }, 'Without it, what the target has had is sent again as well. Nothing is sent before you confirm the number.'),
    ],
    act: async ({ form }) => {
      const target = form.elements.target.value;
      const call = { action: 'replay', body: { target, filter: toFilter(query), missing: missing.checked } };
      const { matching } = await count(call);
      if (matching === 0) throw refusal(missing.checked ? `${target} has missed none of these events, or does not take them.` : `No event that matches can be sent to ${target}.`);
      return { call, target, matching };
    },
  });
  if (!chosen) return false;
  const { call, target, matching } = chosen;
  const changed = await confirmCounted(call, {
    matching, verb: 'Replay', many: events, title: `Replay to ${target}?`,
    about: (number) => [
      h('p', number, ` to target ${target}: ${inWords(query) || 'all there are'}${call.body.missing ? '; only what it has never had' : ''}.`),
      h('p', call.body.missing ? 'They are sent for the first time, the oldest first, and those of one object in order.'
        : 'They are sent the oldest first, and those of one object in order. What the target has had is marked with the header pepay-bridge-replay.'),
    ],
  });
  if (!changed) return false;
  say(`${events(changed.changed)} on the way to ${target}.`);
  return true;
}

/** Moves the deliveries that `query` matches from its removed target to another one. Resolves to whether the move was made. */
export async function moveAll({ target: from, ...query }) {
  const known = targetsThat(({ configured }) => configured !== false);
  const chosen = await ask({
    title: `Move deliveries of ${from}?`, agree: 'Count deliveries',
    body: [
      h('p', `What is pending, retrying, held or dead of ${from}: `, inWords(query) || 'all there is', '.'),
      targetField('To target', known, null),
    ],
    act: async ({ form }) => {
      const to = form.elements.target.value;
      const call = { action: 'move', body: { from, to, filter: toFilter(query) } };
      const { matching, not_taken: left } = await count(call);
      if (matching === 0) throw refusal(left ? `${to} takes none of ${deliveries(left)} that match, by its types, environment or where.` : 'No delivery that matches can be moved.');
      return { call, to, matching, left };
    },
  });
  if (!chosen) return false;
  const { call, to, matching, left } = chosen;
  const changed = await confirmCounted(call, {
    matching, verb: 'Move', many: deliveries, title: `Move from ${from} to ${to}?`,
    about: (number) => [
      h('p', number, ` from ${from} to ${to}: ${inWords(query) || 'all there is'}.`),
      left ? h('p', `${counted(left, 'more matches and stays', 'more match and stay')}: ${to} does not take ${left === 1 ? 'it' : 'them'} by its types, environment or where.`) : null,
      h('p', `They keep their state, attempts and order. What ${to} has a delivery of already is cancelled instead.`),
    ],
  });
  if (!changed) return false;
  say(`${deliveries(changed.changed)} moved to ${to}.`);
  return true;
}

async function count({ action, body }) {
  return post(`deliveries/${action}`, { ...body, dry_run: true });
}

/**
 * Asks the operator to confirm the number `matching` of `call`, and makes the change. If the number has changed
 * meanwhile, the operator must confirm the new one. Resolves to the response of the bridge, or to undefined.
 */
function confirmCounted({ action, body }, { matching, verb, danger, many, title, about }) {
  let expected = matching;
  const number = h('strong', many(expected));
  return ask({
    title, agree: `${verb} ${many(expected)}`, danger, body: about(number),
    act: async ({ advance, relabel }) => {
      const over = new AbortController();
      followBulk(action, expected, advance, over.signal);
      try {
        return await post(`deliveries/${action}`, { ...body, confirm: expected });
      } catch (error) {
        if (error.status !== 409 || error.code !== 'count_changed') throw error;
        expected = (await count({ action, body })).matching;
        number.textContent = many(expected);
        relabel(`${verb} ${number.textContent}`);
        throw Object.assign(error, { message: `Meanwhile it is ${number.textContent} that match. Nothing was changed: look again, and confirm the new number.`, errors: [] });
      } finally {
        over.abort();
      }
    },
  });
}

/** Reports the progress of a bulk change to `advance`, until `signal`. */
async function followBulk(action, matching, advance, signal) {
  try {
    for (;;) {
      await pause(PACE, signal);
      const { calls } = await get('bulk', { signal });
      // The dialog may already show the result.
      if (signal.aborted) return;
      const ours = calls.find((call) => call.action === action && call.matching === matching);
      if (ours) advance(ours.gone_through, matching);
    }
  } catch {
    // The change has ended, or it fails for the same reason and reports the error itself.
  }
}

function targetsThat(pass) {
  return (live.overview?.targets ?? []).filter(pass).map(({ name }) => name);
}

function targetField(text, names, chosen) {
  return h('div', { class: 'field' }, h('label', { for: 'bulk-target' }, text),
    h('select', { id: 'bulk-target', name: 'target', required: true }, names.map((name) => h('option', { value: name, selected: name === chosen }, name))));
}

/** Returns an error with one line, which a dialog shows. */
function refusal(line) {
  return Object.assign(new Error(line), { lines: [line] });
}
