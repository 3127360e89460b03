// The targets: their states, and the actions on them.

import { h, show } from './dom.js';
import { get, post } from './api.js';
import { ask } from './dialog.js';
import { listen, live } from './live.js';
import { fail, hear, linesOf, say } from './notice.js';
import { facts } from './table.js';
import { link } from './route.js';
import { label } from './states.js';
import { counted, duration, number, words } from './format.js';
import { ago, now } from './time.js';

/** Returns the state of a target as labels. */
export function targetLabels({ configured, circuit, paused, paused_reason: why, rejecting, retry_after_until: until }) {
  const waits = until && Date.parse(until) > now();
  if (configured === false) return [label('bad', 'removed', 'Not configured any more: what waits for it is to be moved to another target or cancelled')];
  return [
    paused ? label('warn', 'paused', `Nothing new is sent. It was paused ${why ?? ''}`) : null,
    rejecting ? label('bad', 'rejecting', `It has refused ${number(rejecting.refusals)} requests in a row: ${rejecting.error}`) : null,
    waits && !paused ? label('warn', 'asks to wait', 'Nothing is sent until then: the target has asked for that with Retry-After') : null,
    circuit === 'closed' && !paused && !rejecting && !waits ? label('good', 'sending', 'Requests go out') : null,
    circuit === 'open' ? label('bad', 'circuit open', 'Too many failures in a row: requests wait') : null,
    circuit === 'half_open' ? label('warn', 'trying again', 'One request tries whether the target is back') : null,
  ];
}

export function open(outlet, _route, signal) {
  const cards = h('div', { class: 'cards' });
  show(outlet, h('h1', { tabindex: -1 }, 'Targets'), cards);
  let targets = null;
  /** The result of the last test of each target, by name. */
  const tests = new Map();

  async function load() {
    try {
      ({ targets } = await get('targets', { signal }));
      draw();
    } catch (error) {
      if (!signal.aborted) show(cards, h('div', { class: 'verdict bad', role: 'alert' }, linesOf(error).map((line) => h('p', line))));
    }
  }

  function draw() {
    if (!targets) return show(cards, h('p', { class: 'empty' }, 'Loading …'));
    const fresh = new Map((live.overview?.targets ?? []).map((target) => [target.name, target]));
    const shown = targets.map((target) => ({ ...target, ...fresh.get(target.name) }));
    return show(cards, shown.length ? shown.map(card) : h('p', { class: 'empty' }, 'No target is configured.'));
  }

  function card(target) {
    const { name } = target;
    return h('section', { class: 'card', 'aria-labelledby': `target-${name}`, key: name },
      h('div', { class: 'head' }, h('h2', { id: `target-${name}` }, name, ' ', targetLabels(target)), target.configured === false ? h('a', { href: link('deliveries', null, { target: name }) }, 'Move or cancel what waits', h('span', { class: 'unseen' }, ` for ${name}`)) : h('div', { class: 'buttons' },
        h('button', { type: 'button', onclick: () => turn(target) }, target.paused ? 'Resume' : 'Pause', h('span', { class: 'unseen' }, ` ${name}`)),
        h('button', { type: 'button', 'aria-disabled': tests.get(name)?.running ? 'true' : null, onclick: () => test(name) }, 'Send test event', h('span', { class: 'unseen' }, ` to ${name}`)))),
      outcome(tests.get(name)),
      facts([
        ['Backlog', [number(target.backlog), target.backlog_oldest_at ? [', oldest from ', ago(target.backlog_oldest_at)] : '']],
        ['Held', target.held ? h('a', { href: link('deliveries', null, { state: 'held', target: name }) }, number(target.held)) : '0'],
        ['Dead', target.dead ? h('a', { href: link('deliveries', null, { state: 'dead', target: name }) }, number(target.dead)) : '0'],
        ['End to end', target.latency?.count ? [`${duration(target.latency.p50_ms)} median, 99 % within ${duration(target.latency.p99_ms)} (newest ${counted(target.latency.count, 'first delivery', 'first deliveries')}, since `, ago(target.latency.since), ')'] : 'nothing delivered yet'],
        ['Last delivered', ago(target.last_delivered_at, 'not yet')],
        ['Types', target.types?.join(', ')],
        ['Sends', target.ordering && `${target.ordering === 'none' ? 'in any order' : 'in order per object'}, ${number(target.in_flight)} of at most ${number(target.concurrency)} at a time${target.limited_since ? ', and more could be sent: concurrency limits it' : ''}`],
        ['Address', target.url && h('code', { class: 'long' }, target.url)],
        ['Paused', target.paused && target.paused_reason],
        ['Asks to wait', target.retry_after_until && Date.parse(target.retry_after_until) > now() && ['until ', ago(target.retry_after_until)]],
        ['Refuses', target.rejecting && [`everything since `, ago(target.rejecting.since), `, ${counted(target.rejecting.refusals, 'request')} in a row: `, target.rejecting.error], true],
        ['Last error', target.last_error && [target.last_error.error, ', ', ago(target.last_error.at), ', ', h('a', { class: 'long', href: link('events', target.last_error.event_id) }, target.last_error.event_id)], true],
      ]));
  }

  async function turn({ name, paused }) {
    const changed = await ask(paused ? {
      title: `Resume ${name}?`, agree: 'Resume target', act: () => post(`targets/${encodeURIComponent(name)}/resume`),
      body: h('p', 'What has waited is sent, oldest first.'),
    } : {
      title: `Pause ${name}?`, agree: 'Pause target', act: () => post(`targets/${encodeURIComponent(name)}/pause`),
      body: h('p', 'Nothing new is sent to it until it is resumed, also after a restart. Events go on being stored, and wait. What is on the wire ends as it ends.'),
    });
    if (!changed) return;
    say(`${name} is ${changed.paused ? 'paused' : 'resumed'}.`);
    targets = targets.map((target) => (target.name === name ? { ...target, ...changed } : target));
    if (live.overview) live.overview.targets = live.overview.targets.map((target) => (target.name === name ? { ...target, paused: changed.paused } : target));
    draw();
  }

  async function test(name) {
    if (tests.get(name)?.running) return;
    tests.set(name, { running: true });
    draw();
    try {
      tests.set(name, await post(`targets/${encodeURIComponent(name)}/test`));
      hear(verdict(tests.get(name)));
    } catch (error) {
      tests.delete(name);
      fail(error);
    }
    draw();
  }

  listen(draw, signal);
  draw();
  load();
  return { title: 'Targets' };
}

function outcome(test) {
  if (!test) return null;
  if (test.running) return h('progress', { 'aria-label': 'Waiting for the answer to the test event' });
  return h('p', { class: test.acknowledged ? 'outcome good' : 'outcome bad' }, verdict(test), ' ', h('code', { class: 'long' }, test.event_id));
}

function verdict({ acknowledged, status, duration_ms: took, error }) {
  const answer = status ? `answered ${status}` : words(error ?? 'no answer');
  return `Test event ${acknowledged ? 'acknowledged' : 'not acknowledged'}: ${answer} after ${duration(took)}${error && status ? ` (${error})` : ''}.`;
}
