// The page: shows one view at a time, which the address selects, and the state of the connection to the bridge.

import { listen, live, start } from './live.js';
import { fail, forget, hear, linesOf } from './notice.js';
import { parse } from './route.js';
import { showSession } from './session.js';
import { explainBy } from './states.js';
import { span } from './format.js';
import { timeOfDay, zone } from './time.js';
import * as overview from './overview.js';
import * as events from './events.js';
import * as event from './event.js';
import * as deliveries from './deliveries.js';
import * as targets from './targets.js';
import * as streams from './streams.js';
import * as audit from './audit.js';

const VIEWS = { overview, events, deliveries, targets, streams, audit };
const main = document.getElementById('main');

/** The present view: its name and id, and the object that the view has returned. */
let current = null;

function go() {
  const route = parse(location.hash);
  // The address is not that of a view, such as that of the skip link.
  if (!route) return;
  const module = route.name === 'events' && route.id ? event : VIEWS[route.name] ?? overview;
  if (current && current.module === module && current.id === route.id && current.view.follow) {
    current.view.follow(route);
    return;
  }
  const first = current === null;
  current?.stop.abort();
  const stop = new AbortController();
  main.replaceChildren();
  forget();
  const view = module.open(main, route, stop.signal);
  current = { module, id: route.id, stop, view };
  document.title = `${view.title} · pepay-bridge`;
  for (const entry of document.querySelectorAll('#nav a')) {
    if (entry.dataset.view === route.name) entry.setAttribute('aria-current', 'page');
    else entry.removeAttribute('aria-current');
  }
  // The focus moves to the beginning of the view, for keyboards and screen readers.
  if (!first) {
    scrollTo(0, 0);
    main.querySelector('h1')?.focus({ preventScroll: true });
  }
}

const CONNECTION = {
  connecting: ['calm', 'Connecting'],
  live: ['good', 'Live'],
  stale: ['warn', 'Stale'],
  lost: ['bad', 'Connection lost'],
};
let heardState = 'connecting';

function showConnection() {
  const [look, text] = CONNECTION[live.state];
  const pill = document.getElementById('connection');
  pill.className = `pill ${look}`;
  if (pill.textContent !== text) pill.textContent = text;
  const banner = document.getElementById('banner');
  banner.hidden = live.state === 'live' || live.state === 'connecting';
  main.classList.toggle('stale', !banner.hidden);
  if (!banner.hidden) banner.textContent = trouble();
  if (live.state !== heardState) {
    hear(live.state === 'live' ? 'The page is live.' : live.state === 'lost' ? 'The connection to the bridge is lost.' : text);
    heardState = live.state;
  }
  showSession();
}

function trouble() {
  const from = live.heardAt ? ` What is shown is from ${timeOfDay(live.heardAt).slice(0, 8)} ${zone()}.` : '';
  if (live.state === 'stale') return `The bridge has said nothing for ${span(Math.round((Date.now() - live.heardAt) / 1000))}.${from}`;
  const why = live.error && live.error.name !== 'AbortError' ? ` ${linesOf(live.error)[0]}` : '';
  const wait = Math.max(0, Math.ceil((live.retryAt - Date.now()) / 1000));
  return `The connection to the bridge is lost${wait ? `; next try in ${wait} s` : '; trying again'}.${why}${from}`;
}

document.getElementById('skip').onclick = (event) => {
  event.preventDefault();
  main.focus();
};
explainBy((reason) => fail(new Refusal(reason)));

/** The reason why a button does nothing. */
class Refusal {
  constructor(reason) {
    this.lines = [reason];
  }
}

addEventListener('hashchange', go);
listen(showConnection);
go();
start();
