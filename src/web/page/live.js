// What the bridge tells about itself every second, and how well that connection does.

import { get, request } from './api.js';
import { followClock, pause } from './time.js';

const KEPT_POINTS = 720;
/** A second without news is normal, this is not. */
const STALE = 5_000;
/** After so much silence the connection counts as lost. */
const SILENCE = 15_000;
const SHORTEST_WAIT = 500;
const LONGEST_WAIT = 15_000;

export const live = {
  /** The newest overview, or null before the first. */
  overview: null,
  /** Counts over time, oldest first. */
  history: [],
  /** "connecting", "live", "stale" or "lost". */
  state: 'connecting',
  /** When the newest overview came, by this machine's clock. */
  heardAt: 0,
  /** While lost: when the next try is due. */
  retryAt: 0,
  /** While lost: why. */
  error: null,
};

const listeners = new Set();
let running = null;

/** Calls `listener` after every change, until `signal`. */
export function listen(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener('abort', () => listeners.delete(listener));
}

/** Resolves with the next overview, or after `limit` milliseconds. */
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

/** Keeps connected while the page is visible. */
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
      // Also after a loss: the history has what was missed meanwhile.
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

/** Reads the stream until it ends, falls silent or is stopped. */
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

/** The data lines of one server-sent event of the kind `overview`. */
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
