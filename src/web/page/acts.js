// What changes a delivery: each asks first, and says what came of it.

import { h } from './dom.js';
import { post } from './api.js';
import { ask } from './dialog.js';
import { say } from './notice.js';
import { counted } from './format.js';
import { ACTIONS } from './states.js';

/** Applies `action` to one delivery. Resolves to the delivery as it then is, or undefined. */
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

/** Sends an event to a target once more. */
export async function replay(id, target) {
  const changed = await ask({
    title: `Replay to ${target}?`, agree: 'Replay event',
    body: [h('p', h('code', { class: 'long' }, id), ` to target ${target}.`), h('p', ACTIONS.replay.means)],
    act: () => post(`events/${encodeURIComponent(id)}/replay`, { target }),
  });
  if (changed) say(`The event is sent to ${target} again.`);
  return changed;
}

/** What a comparison with Pepay came to, in words. */
const AGREEMENTS = {
  equal: () => 'Pepay has the same event.',
  different: ({ differs }) => `Pepay has another event under this id: ${differs.join(', ')} differ.`,
  unknown: () => 'Pepay knows of no event of this id.',
};

/** Asks Pepay for an event and says whether it is the one that the bridge holds. */
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
 * Applies `action` to the deliveries that were `selected`, one by one; those that it is not for by
 * then stay as they are. Resolves to whether anything was changed.
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
          // It has moved on; any other failure is one for all that are left.
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
