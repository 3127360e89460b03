// The admin API, with its token and its problems.

import { askToken, token } from './session.js';

/** An answer that is not the one asked for (RFC 9457), or no answer at all (status 0). */
export class Problem extends Error {
  constructor(status, members = {}) {
    super(members.detail || members.title || `the bridge has answered ${status}`);
    this.status = status;
    this.title = members.title ?? '';
    /** What kind of problem it is, such as `count_changed`. */
    this.code = (members.type ?? '').split(':').at(-1);
    this.errors = members.errors ?? [];
  }

  /** The problem in words, each faulty value with what is allowed instead. */
  get lines() {
    // The detail may tell of one already, but not what is allowed.
    const told = this.errors.filter(({ name, allowed }) => allowed?.length || !this.message.includes(`\`${name}\``));
    const faults = told.map(({ name, reason, allowed }) =>
      `${name === 'configuration' ? '' : `${name} `}${reason}${allowed?.length ? `; allowed: ${allowed.join(', ')}` : ''}`);
    return [this.message, ...faults];
  }
}

/** `GET`, answered with JSON, in `limit` milliseconds if there is one. Empty parameters are left out. */
export async function get(path, { query = {}, signal, limit } = {}) {
  const answer = await request(path, { query, signal, limit });
  return answer.json();
}

/** `POST` of JSON, answered with JSON, or with nothing where it is done and cannot be shown. */
export async function post(path, body = {}, { signal } = {}) {
  const answer = await request(path, {
    method: 'POST', signal, body: JSON.stringify(body), headers: { 'content-type': 'application/json' },
  });
  return answer.status === 204 ? {} : answer.json();
}

/**
 * The answer itself, once it is a good one. Asks for the token as often as the bridge does; a
 * `limit` is that of each try, and not of the operator.
 */
export async function request(path, { query = {}, headers = {}, signal, limit, ...options } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const url = `/api/v1/${path}${given.length ? `?${new URLSearchParams(given)}` : ''}`;
  for (;;) {
    const used = token();
    const authorization = used ? { authorization: `Bearer ${used}` } : {};
    const answer = await reach(url, {
      ...options, headers: { ...headers, ...authorization, 'pepay-bridge-client': 'page' }, cache: 'no-store', signal: limit ? within(limit, signal) : signal,
    });
    if (answer.ok) return answer;
    if (answer.status !== 401 || !(await askToken(used))) throw await problem(answer);
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw noAnswer();
  }
}

function noAnswer() {
  return new Problem(0, { title: 'No answer', detail: 'The bridge does not answer: is it running, and reachable from here?' });
}

/** Gives up after `limit`, which does no harm once the answer is there, or with `signal`. */
function within(limit, signal) {
  const late = new AbortController();
  setTimeout(() => late.abort(noAnswer()), limit);
  return AbortSignal.any([late.signal, ...(signal ? [signal] : [])]);
}

async function problem(answer) {
  try {
    const members = await answer.json();
    // Outside the API, errors have the shape of the public listener.
    return new Problem(answer.status, members.error ? { detail: members.error.message } : members);
  } catch {
    return new Problem(answer.status, { title: answer.statusText });
  }
}
