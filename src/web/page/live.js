// The overview that the bridge sends every second, and the state of that connection.

import { get, request } from './api.js';
import { followClock, pause } from './time.js';

const KEPT_POINTS = 720;
/** The age in milliseconds from which on an overview is stale. An overview comes every second. */
const STALE = 5_000;
/** The time without data after which the connection counts as lost, in milliseconds. */
const SILENCE = 15_000;
const SHORTEST_WAIT = 500;
const LONGEST_WAIT = 15_000;

export const live = {
  /** The newest overview; null before the first. */
  overview: null,
  /** The counts over time, the oldest first. */
  history: [],
  /** "connecting", "live", "stale" or "lost". */
  state: 'connecting',
  /** The time of the newest overview, by this machine's clock. */
  heardAt: 0,
  /** The time of the next attempt to connect, while the connection is lost. */
  retryAt: 0,
  /** The reason of the loss, while the connection is lost. */
  error: null,
};

const listeners = new Set();
let running = null;

/** Calls `listener` after every change, until `signal`. */
export function listen(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener('abort', () => listeners.delete(listener));
}

/** Resolves when the next overview comes, or after `limit` milliseconds. */
export function next(limit) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const { heardAt } = live;
    const done = () => { over.abort(); clearTimeout(timer); resolve(); };
    const timer = setTimeout(done, limit);
    listen(() => { if (live.heardAt !== heardAt) done(); }, over.signal);
  });
}

function tell() {
  for (const listener of listeners) listener();
}

/** Keeps the connection while the page is visible. */
export function start() {
  document.addEventListener('visibilitychange', look);
  setInterval(judgeAge, 1000);
  look();
}

function look() {
  if (document.hidden) {
    running?.abort();
    running = null;
  } else if (!running) {
    running = new AbortController();
    keepConnected(running.signal);
  }
}

function judgeAge() {
  if (live.state === 'live' && Date.now() - live.heardAt > STALE) live.state = 'stale';
  if (live.state !== 'live') tell();
}

async function keepConnected(stop) {
  for (let failures = 0; !stop.aborted; failures += 1) {
    try {
      // This also runs after a loss, since the history has the counts of that time.
      adopt(await get('overview', { signal: stop, limit: SILENCE }));
      await follow(stop, () => { failures = 0; });
      live.error = null;
    } catch (error) {
      if (stop.aborted) return;
      live.error = error;
    }
    const wait = Math.min(SHORTEST_WAIT * 2 ** failures, LONGEST_WAIT) * (0.5 + Math.random() / 2);
    live.state = 'lost';
    live.retryAt = Date.now() + wait;
    tell();
    await pause(wait, stop);
  }
}

/** Reads the stream until it ends, sends nothing for too long, or is stopped. */
async function follow(stop, heard) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE);
  try {
    const answer = await request('live', { signal: AbortSignal.any([stop, silence.signal]), headers: { accept: 'text/event-stream' } });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE);
      text += value;
      const messages = text.split(/\r?\n\r?\n/);
      text = messages.pop();
      for (const message of messages) {
        const data = dataOf(message);
        if (!data) continue;
        heard();
        adopt(JSON.parse(data));
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the data of a server-sent event of the kind `overview`. */
function dataOf(message) {
  const lines = message.split(/\r?\n/);
  const field = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).replace(/^ /, ''));
  return field('event')[0] === 'overview' ? field('data').join('\n') : '';
}

function adopt(overview) {
  const newest = live.history.at(-1)?.at ?? '';
  const points = overview.history ?? [];
  const complete = points.length > 1;
  live.history = (complete ? points : [...live.history, ...points.filter(({ at }) => at > newest)]).slice(-KEPT_POINTS);
  followClock(overview.now);
  Object.assign(live, { overview, state: 'live', heardAt: Date.now(), error: null });
  tell();
}
