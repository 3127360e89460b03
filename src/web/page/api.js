// The admin API, with its token and its problems.

import { askToken, token } from './session.js';

/** An answer that is not the one asked for (RFC 9457), or no answer at all (status 0). */
export class Problem extends Error {
  constructor(status, members = {}) {
    super(members.detail || members.title || `the bridge has answered ${status}`);
    this.status = status;
    this.title = members.title ?? '';
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

/** `GET`, answered with JSON. Empty parameters are left out. */
export async function get(path, { query = {}, signal } = {}) {
  const answer = await request(path, { query, signal });
  return answer.json();
}

/** `POST` of JSON, answered with JSON, or with nothing where it is done and cannot be shown. */
export async function post(path, body = {}, { signal } = {}) {
  const answer = await request(path, {
    method: 'POST', signal, body: JSON.stringify(body), headers: { 'content-type': 'application/json' },
  });
  return answer.status === 204 ? {} : answer.json();
}

/** The answer itself, once it is a good one. Asks for the token as often as the bridge does. */
export async function request(path, { query = {}, headers = {}, ...options } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const url = `/api/v1/${path}${given.length ? `?${new URLSearchParams(given)}` : ''}`;
  for (;;) {
    const used = token();
    const authorization = used ? { authorization: `Bearer ${used}` } : {};
    const answer = await reach(url, { ...options, headers: { ...headers, ...authorization }, cache: 'no-store' });
    if (answer.ok) return answer;
    if (answer.status !== 401 || !(await askToken(used))) throw await problem(answer);
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, { title: 'No answer', detail: 'The bridge does not answer: is it running, and reachable from here?' });
  }
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
