// Actions on one delivery or event. Each action asks first, and reports its result.

import { h } from './dom.js';
import { post } from './api.js';
import { ask } from './dialog.js';
import { say } from './notice.js';
import { counted } from './format.js';
import { ACTIONS } from './states.js';

/** Applies `action` to one delivery. Resolves to the delivery after the action, or to undefined. */
export async function act(action, { target, event_id: id }) {
  const { verb, means, danger, done } = ACTIONS[action];
  const changed = await ask({
    title: `${verb} this delivery?`, agree: `${verb} delivery`, danger,
    body: [h('p', h('code', { class: 'long' }, id), ` to target ${target}.`), h('p', means)],
    act: () => post(`deliveries/${encodeURIComponent(target)}/${encodeURIComponent(id)}/${action}`),
  });
  if (changed) say(`Delivery to ${target} ${done}${changed.state ? `: it is ${changed.state} now` : ''}.`);
  return changed;
}

/** Replays an event to a target. */
export async function replay(id, target) {
  const changed = await ask({
    title: `Replay to ${target}?`, agree: 'Replay event',
    body: [h('p', h('code', { class: 'long' }, id), ` to target ${target}.`), h('p', ACTIONS.replay.means)],
    act: () => post(`events/${encodeURIComponent(id)}/replay`, { target }),
  });
  if (changed) say(`The event is sent to ${target} again.`);
  return changed;
}

/** The text for each outcome of a comparison with Pepay. */
const AGREEMENTS = {
  equal: () => 'Pepay has the same event.',
  different: ({ differs }) => `Pepay has another event under this id: ${differs.join(', ')} differ.`,
  unknown: () => 'Pepay knows of no event of this id.',
};

/** Asks Pepay for an event and reports whether it is the same as in the bridge. */
export async function verify(id) {
  const found = await ask({
    title: 'Verify with Pepay?', agree: 'Ask Pepay',
    body: [h('p', h('code', { class: 'long' }, id)), h('p', 'Pepay is asked for this event, and its type, creation time and data are compared with what the bridge holds. Nothing is changed.')],
    act: () => post(`events/${encodeURIComponent(id)}/verify`),
  });
  if (found) say(AGREEMENTS[found.outcome](found));
  return found;
}

/**
 * Applies `action` to the `selected` deliveries, one by one. Deliveries in a state that the action does
 * not apply to stay unchanged. Resolves to whether the operator has confirmed and the calls have ended.
 */
export async function actOnSelected(action, selected) {
  const { verb, means, danger, done } = ACTIONS[action];
  const fitting = selected.filter(({ state }) => ACTIONS[action].from.includes(state));
  const many = counted(fitting.length, 'delivery', 'deliveries');
  const result = await ask({
    title: `${verb} what is selected?`, agree: `${verb} ${many}`, danger,
    body: [h('p', h('strong', many), fitting.length < selected.length ? ` of the ${selected.length} that are selected` : ' that you have selected', '.'), h('p', means)],
    act: async ({ advance }) => {
      const refused = [];
      for (const [index, { target, event_id: id }] of fitting.entries()) {
        try {
          await post(`deliveries/${encodeURIComponent(target)}/${encodeURIComponent(id)}/${action}`);
        } catch (error) {
          // With these statuses the delivery has changed its state. Any other error ends the action.
          if (![404, 409, 410].includes(error.status)) throw error;
          refused.push(id);
        }
        advance(index + 1, fitting.length);
      }
      return { changed: fitting.length - refused.length, refused };
    },
  });
  if (!result) return false;
  const left = result.refused.length ? `; ${counted(result.refused.length, 'other')} had moved on and stayed as they are` : '';
  say(`${counted(result.changed, 'delivery', 'deliveries')} ${done}${left}.`);
  return true;
}
