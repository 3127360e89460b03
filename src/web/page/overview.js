// The first view: the state of the bridge, and the parts that need an operator.

import { h, show } from './dom.js';
import { listen, live } from './live.js';
import { get } from './api.js';
import { charts, DAY, share, SPANS } from './chart.js';
import { fail } from './notice.js';
import { facts, table } from './table.js';
import { link } from './route.js';
import { label } from './states.js';
import { bytes, counted, duration, number, percent, span, words } from './format.js';
import { ago, now } from './time.js';
import { configuration } from './configuration.js';
import { targetLabels } from './targets.js';
import { streamLabels } from './streams.js';

/** The time for which a refused webhook is part of the verdict, in milliseconds. */
const RECENT = 86_400_000;

/** The interval between two reads of a day's history, in milliseconds. */
const REREAD = 60_000;

const COUNTS = [
  { name: 'received', label: 'Received' },
  { name: 'unique', label: 'Unique' },
  { name: 'delivered', label: 'Delivered' },
  { name: 'failed', label: 'Failed attempts' },
];

export function open(outlet, _route, signal) {
  let [seconds, pointed] = [900, null];
  /** The minutes of a day, and the time of the last request for them. */
  let [minutes, askedAt] = [[], 0];
  const top = h('div');
  const graphs = h('div', { class: 'graphs' });
  const rest = h('div');
  const choices = h('fieldset', { class: 'segments' }, h('legend', { class: 'unseen' }, 'Time shown'), SPANS.map((value) =>
    h('label', h('input', {
      type: 'radio', name: 'span', value, checked: value === seconds, onchange: () => { seconds = value; draw(); },
    }), span(value))));
  const overTime = h('section', { class: 'card', 'aria-labelledby': 'over-time', hidden: true },
    h('div', { class: 'head' }, h('h2', { id: 'over-time' }, 'Events over time'), choices), graphs);
  show(outlet, h('h1', { tabindex: -1 }, 'Overview'), top, overTime, rest);

  async function readDay() {
    askedAt = Date.now();
    try {
      minutes = (await get('history', { signal })).points;
      drawGraphs();
    } catch (error) {
      fail(error);
    }
  }
  function drawGraphs() {
    if (seconds === DAY && Date.now() - askedAt > REREAD) readDay();
    show(graphs, charts({ history: seconds === DAY ? minutes : live.history, seconds, counts: COUNTS, pointed, point: (index) => { pointed = index; drawGraphs(); } }));
  }
  function draw() {
    const { overview } = live;
    if (!overview) {
      show(top, h('p', { class: 'empty', role: 'status' }, 'Waiting for the bridge …'));
      return;
    }
    overTime.hidden = false;
    // Sections that need an operator come before the others.
    const [urgent, calm] = [[], []];
    (overview.targets.some(targetNeeds) ? urgent : calm).push(targets(overview));
    (overview.streams.some(streamNeeds) ? urgent : calm).push(streams(overview));
    (overview.last_refused_webhook ? urgent : calm).push(webhooks(overview));
    show(top, verdict(overview), tiles(overview), urgent);
    drawGraphs();
    show(rest, h('div', { class: 'columns' }, sources(overview), races(overview)), calm, replicas(overview), store(overview), configuration());
  }
  listen(draw, signal);
  draw();
  return { title: 'Overview' };
}

/** Returns the troubles that need an operator, the most severe first: `[look, what]`. */
function troubles({ ready, reasons, warnings = [], targets: all, streams: subscribed, last_refused_webhook: missed, store: held }) {
  const sum = (name) => total(all, name);
  const named = (some) => some.map(({ name }) => name).join(', ');
  const share = (some, whole, one) => `${number(some.length)} of ${counted(whole.length, one)}`;
  const are = (some, what) => `${some.length === 1 ? 'is' : 'are'} ${what}: ${named(some)}`;
  const [down, paused] = [all.filter(({ circuit }) => circuit !== 'closed'), all.filter((target) => target.paused)];
  const rejecting = all.filter((target) => target.rejecting);
  const [dead, uncertain] = [sum('dead'), sum('held')];
  const unread = held.committing && held.error;
  const lossy = subscribed.filter(({ gap, behind }) => behind || gap?.state === 'unproven');
  const waiting = (state, count, what) => h('a', { href: link('deliveries', null, { state }) }, `${counted(count, 'delivery', 'deliveries')} ${count === 1 ? 'is' : 'are'} ${what}`);
  const isRecent = missed && now() - Date.parse(missed.at) < RECENT;
  return [
    ...reasons.map((reason) => ['bad', reason]),
    down.length ? ['bad', `${share(down, all, 'target')} ${are(down, 'down')}`] : null,
    rejecting.length ? ['bad', `${share(rejecting, all, 'target')} ${are(rejecting, 'refusing everything')}`] : null,
    dead ? ['bad', waiting('dead', dead, 'dead')] : null,
    uncertain ? ['warn', waiting('held', uncertain, 'held')] : null,
    unread ? ['bad', `The store cannot be read, so that it is unknown what waits: ${held.error}`] : null,
    lossy.length ? ['bad', `${share(lossy, subscribed, 'stream')} ${are(lossy, 'missing events')}`] : null,
    paused.length ? ['warn', `${share(paused, all, 'target')} ${are(paused, 'paused')}`] : null,
    isRecent ? ['warn', ['A signed webhook reached no endpoint: ', h('code', missed.request)]] : null,
    ...warnings.map((warning) => ['warn', warning]),
  ].filter(Boolean).map(([look, what]) => [ready ? look : 'bad', what]);
}

/** Returns the sum of a number over all targets, or null if the number of a target is unknown. */
function total(all, name) {
  return all.some((target) => target[name] === null) ? null : all.reduce((sum, target) => sum + target[name], 0);
}

function verdict(overview) {
  const { ready, version, commit, uptime_seconds: uptime } = overview;
  const build = h('span', { class: 'note' }, `version ${version}${commit ? ` (${commit.slice(0, 9)})` : ''}, up for ${span(uptime)}`);
  const found = troubles(overview);
  if (!found.length) {
    return h('div', { class: 'verdict good', key: 'verdict' }, h('p', h('strong', 'Ready.'), ' Taking events in; no delivery waits for an operator. '), build);
  }
  const look = found.some(([grave]) => grave === 'bad') ? 'bad' : 'warn';
  const title = ready ? 'Taking events in.' : 'Not ready.';
  return h('div', { class: `verdict ${look}`, key: 'verdict' }, h('p', h('strong', title)), h('ul', found.map(([, what]) => h('li', what))), build);
}

/** Sorts the items that need an operator before the others. */
function troubledFirst(all, isTroubled) {
  return [...all].sort((a, b) => Number(isTroubled(b)) - Number(isTroubled(a)));
}

const targetNeeds = ({ configured, circuit, paused, rejecting, dead, held }) => configured === false || circuit !== 'closed' || paused || rejecting || dead > 0 || held > 0;
const streamNeeds = ({ connected, behind, gap }) => !connected || behind || gap?.state === 'unproven';

function tiles({ targets: all, store: held, usage }) {
  const sum = (name) => total(all, name);
  const oldest = all.reduce((worst, target) => ((target.backlog_oldest_seconds ?? 0) > (worst?.backlog_oldest_seconds ?? 0) ? target : worst), null);
  const slowest = all.filter(({ latency }) => latency?.count).reduce((worst, target) => (target.latency.p99_ms > (worst?.latency.p99_ms ?? -1) ? target : worst), null);
  const [backlog, dead, waiting] = [sum('backlog'), sum('dead'), sum('held')];
  const tile = (name, value, note, look) => h('div', { class: look ? `tile ${look}` : 'tile', key: name }, h('dt', name), h('dd', h('span', { class: 'figure' }, value), h('span', { class: 'note' }, note)));
  return h('dl', { class: 'tiles', key: 'tiles' },
    tile('Backlog', number(backlog), oldest ? ['oldest waits for ', span(Math.floor(oldest.backlog_oldest_seconds)), ' (', oldest.name, ')'] : backlog === null ? 'unknown' : 'nothing waits'),
    tile('Dead', dead ? h('a', { href: link('deliveries', null, { state: 'dead' }) }, number(dead)) : number(dead), dead ? 'given up: need an operator' : dead === null ? 'unknown' : 'none given up', dead ? 'bad' : null),
    tile('Held', waiting ? h('a', { href: link('deliveries', null, { state: 'held' }) }, number(waiting)) : number(waiting), waiting ? 'outcome unknown: need an operator' : waiting === null ? 'unknown' : 'no outcome unknown', waiting ? 'warn' : null),
    tile('End to end', slowest ? duration(slowest.latency.p50_ms) : '–', slowest ? `median; 99 % within ${duration(slowest.latency.p99_ms)} (${slowest.name}, the slowest)` : 'nothing delivered yet'),
    tile('Stored', number(held.events), `events, ${bytes(usage?.database_bytes)}`));
}

function sources({ sources: all }) {
  return h('section', { class: 'card', 'aria-labelledby': 'sources', key: 'sources' }, h('h2', { id: 'sources' }, 'Sources'), table({
    caption: 'Events by source since the bridge started', key: ({ source }) => source, rows: all, empty: 'No source is configured.',
    columns: [
      { label: 'Source', cell: ({ source }) => source, main: true },
      { label: 'Received', number: true, cell: ({ received }) => number(received) },
      { label: 'First with it', number: true, cell: ({ unique }) => number(unique) },
      { label: 'Repeats', number: true, cell: ({ duplicate }) => number(duplicate) },
      { label: 'Last event', cell: ({ last_event_at: last }) => ago(last, 'none yet') },
    ],
  }));
}

function races({ races: race }) {
  const parts = (race?.first ?? []).filter(({ count }) => count);
  const only = (race?.only ?? []).filter(({ count }) => count);
  const said = parts.map(({ source, count }) => `${source} ${percent(count, race.compared)}`).join(', ');
  const body = race?.compared ? [
    h('p', `Of the newest ${counted(race.compared, 'event')} that two live sources brought, first was:`),
    share({ label: `First with an event: ${said}`, parts: parts.map(({ source, count }) => ({ label: source, count })) }),
    h('ul', { class: 'legend' }, parts.map(({ source, count }, index) => h('li', { key: source },
      h('span', { class: `swatch part-${index}` }), `${source} `, h('strong', percent(count, race.compared)), ` (${number(count)})`))),
    h('p', 'The other followed after ', h('strong', duration(race.lag_ms_p50)), ' (median), and in 99 % within ', h('strong', duration(race.lag_ms_p99)), '.'),
  ] : [h('p', { class: 'empty' }, 'No event has come by two live sources yet.')];
  const alone = only.length ? h('p', { key: 'only' }, 'By one source only: ', only.map(({ source, count }) => `${source} ${number(count)}`).join(', '), '.') : null;
  return h('section', { class: 'card', 'aria-labelledby': 'races', key: 'races' }, h('h2', { id: 'races' }, 'Which source was first'), body, alone);
}

function streams({ streams: all }) {
  return h('section', { class: 'card', 'aria-labelledby': 'streams', key: 'streams' },
    h('div', { class: 'head' }, h('h2', { id: 'streams' }, 'Streams'), h('a', { href: link('streams') }, 'Reconnect, backfill')), table({
      caption: 'Streams', hideCaption: true, key: ({ name }) => name, rows: troubledFirst(all, streamNeeds), empty: 'No stream is configured.',
      columns: [
        { label: 'Stream', cell: ({ name }) => name, main: true },
        { label: 'State', cell: streamLabels },
        { label: 'Since', cell: ({ since }) => ago(since) },
        { label: 'Last event', cell: ({ last_event: last }) => ago(last?.at, 'none yet') },
        { label: 'Reconnects', number: true, cell: ({ reconnects }) => number(reconnects) },
        { label: 'Trouble', cell: ({ problem, last_disconnect: last }) => problem ?? (last ? `last: ${last}` : 'none') },
      ],
    }));
}

function targets({ targets: all }) {
  return h('section', { class: 'card', 'aria-labelledby': 'targets', key: 'targets' },
    h('div', { class: 'head' }, h('h2', { id: 'targets' }, 'Targets'), h('a', { href: link('targets') }, 'Pause, resume, test')), table({
      caption: 'Targets', hideCaption: true, key: ({ name }) => name, rows: troubledFirst(all, targetNeeds), empty: 'No target is configured.',
      columns: [
        { label: 'Target', cell: ({ name }) => name, main: true },
        { label: 'State', cell: targetLabels },
        { label: 'Backlog', number: true, cell: ({ backlog }) => number(backlog) },
        { label: 'Oldest', cell: ({ backlog_oldest_at: oldest }) => ago(oldest) },
        { label: 'Held', number: true, cell: ({ name, held }) => (held ? h('a', { href: link('deliveries', null, { state: 'held', target: name }) }, number(held)) : number(held)) },
        { label: 'Dead', number: true, cell: ({ name, dead }) => (dead ? h('a', { href: link('deliveries', null, { state: 'dead', target: name }) }, number(dead)) : number(dead)) },
        { label: 'End to end, 50 / 99 %', cell: ({ latency }) => (latency?.count ? `${duration(latency.p50_ms)} / ${duration(latency.p99_ms)}` : '–') },
        { label: 'Last delivered', cell: ({ last_delivered_at: last }) => ago(last, 'not yet') },
      ],
    }));
}

function refusal({ code, at, message, peer, forwarded_for: from, event_id: id, bytes: size }) {
  const sender = from ? `${from} (by ${peer})` : peer;
  const notes = [message, id, size == null ? null : bytes(size), sender && `from ${sender}`].filter(Boolean);
  return [`${words(code)}, `, ago(at), h('span', { class: 'note' }, notes.join('; '))];
}

function webhooks({ webhooks: all, last_refused_webhook: missed }) {
  const miss = missed && h('p', { class: 'verdict warn', key: 'missed' }, h('strong', 'A signed webhook reached no endpoint: '),
    h('code', missed.request), ` was answered ${missed.status}, `, ago(missed.at), `, from ${missed.forwarded_for ?? missed.peer}. Is the address at Pepay, or a proxy, right?`);
  return h('section', { class: 'card', 'aria-labelledby': 'webhooks', key: 'webhooks' }, h('h2', { id: 'webhooks' }, 'Webhooks'), miss, table({
    caption: 'Webhook endpoints', hideCaption: true, key: ({ name }) => name, rows: all ?? [], empty: 'No webhook endpoint is configured.',
    columns: [
      { label: 'Endpoint', cell: ({ name }) => name, main: true },
      { label: 'Path', cell: ({ path }) => h('code', path) },
      { label: 'Last event', cell: ({ last_event: last }) => ago(last?.at, 'none yet') },
      { label: 'Last refusal', cell: ({ last_rejection: last }) => (last ? refusal(last) : 'none') },
    ],
  }));
}

/** Returns the section of the replicas that share the store, if there may be several. */
function replicas({ replicas: all = [] }) {
  if (!all.length) return null;
  return h('section', { class: 'card', 'aria-labelledby': 'replicas', key: 'replicas' }, h('h2', { id: 'replicas' }, 'Replicas'), table({
    caption: 'Replicas', hideCaption: true, key: ({ id }) => id, rows: all, empty: 'None lives.',
    columns: [
      { label: 'Host', cell: ({ name, this: own }) => [name, own ? [' ', label('calm', 'this one')] : null], main: true },
      { label: 'Id', cell: ({ id }) => h('code', { title: id }, id.slice(0, 8)) },
      { label: 'Version', cell: ({ version }) => version },
      { label: 'Since', cell: ({ since }) => ago(since) },
      { label: 'Configuration', cell: ({ same_configuration: same }) => (same ? 'the same' : label('warn', 'another', 'Its targets, streams or webhooks are configured otherwise')) },
      { label: 'Has', cell: ({ holds }) => (holds.length ? holds.map(({ lease, term, since }) => h('div', { key: lease }, lease, h('span', { class: 'note' }, `term ${number(term)}, `, ago(since)))) : 'nothing') },
    ],
  }));
}

function store({ store: held, usage }) {
  const disk = usage?.disk_total_bytes ? [
    h('meter', { min: 0, max: usage.disk_total_bytes, value: usage.disk_free_bytes, low: usage.disk_total_bytes / 10, optimum: usage.disk_total_bytes, 'aria-label': 'Free disk room' }),
    ` ${bytes(usage.disk_free_bytes)} free of ${bytes(usage.disk_total_bytes)}`,
  ] : null;
  return h('section', { class: 'card', 'aria-labelledby': 'store', key: 'store' }, h('h2', { id: 'store' }, 'Store'), facts([
    ['State', held.committing ? label('good', 'commits') : [label('bad', 'does not commit'), ' ', held.error]],
    ['Reading', held.committing && held.error, true],
    ['Events', `${number(held.events)}, sequence ${number(held.first_sequence)} to ${number(held.last_sequence)}`],
    ['Database', usage && `${bytes(usage.database_bytes)}, of it ${bytes(usage.free_bytes)} free`],
    ['Write-ahead log', usage && bytes(usage.wal_bytes)],
    ['Disk', disk],
    ['Engine', held.engine],
  ]));
}
