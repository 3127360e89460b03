// The client of the admin API, with its token and its problems.

import { askToken, token } from './session.js';

/** An error response (RFC 9457), or a missing response (status 0). */
export class Problem extends Error {
  constructor(status, members = {}) {
    super(members.detail || members.title || `the bridge has answered ${status}`);
    this.status = status;
    this.title = members.title ?? '';
    /** The code of the problem, such as `count_changed`. */
    this.code = (members.type ?? '').split(':').at(-1);
    this.errors = members.errors ?? [];
  }

  /** The lines of text for the problem. Each wrong value has a line with the allowed values. */
  get lines() {
    // The detail may name a wrong value, but not the allowed ones.
    const told = this.errors.filter(({ name, allowed }) => allowed?.length || !this.message.includes(`\`${name}\``));
    const faults = told.map(({ name, reason, allowed }) =>
      `${name === 'configuration' ? '' : `${name} `}${reason}${allowed?.length ? `; allowed: ${allowed.join(', ')}` : ''}`);
    return [this.message, ...faults];
  }
}

/** Sends `GET` and resolves to the JSON of the response. `limit` is in milliseconds. Empty parameters are left out. */
export async function get(path, { query = {}, signal, limit } = {}) {
  const answer = await request(path, { query, signal, limit });
  return answer.json();
}

/** Sends `POST` with JSON and resolves to the JSON of the response, or to `{}` if the response is empty (204). */
export async function post(path, body = {}, { signal } = {}) {
  const answer = await request(path, {
    method: 'POST', signal, body: JSON.stringify(body), headers: { 'content-type': 'application/json' },
  });
  return answer.status === 204 ? {} : answer.json();
}

/**
 * Sends a request and resolves to its successful response. While the bridge requires another token, the
 * function asks the operator for it and sends the request again. `limit` is the time limit of each request,
 * in milliseconds; the time of the operator does not count.
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

/** Returns a signal that aborts after `limit` milliseconds, or with `signal`. A late abort has no effect. */
function within(limit, signal) {
  const late = new AbortController();
  setTimeout(() => late.abort(noAnswer()), limit);
  return AbortSignal.any([late.signal, ...(signal ? [signal] : [])]);
}

async function problem(answer) {
  try {
    const members = await answer.json();
    // Errors outside the API have the shape of the public listener's errors.
    return new Problem(answer.status, members.error ? { detail: members.error.message } : members);
  } catch {
    return new Problem(answer.status, { title: answer.statusText });
  }
}
