// Times by the bridge's clock, as ages and as absolute times.

import { h } from './dom.js';
import { span } from './format.js';

/** The time by which the bridge's clock is ahead of this machine's, in milliseconds. */
let ahead = 0;

export function followClock(now) {
  ahead = Date.parse(now) - Date.now();
}

/** Returns the bridge's present time, in milliseconds since 1970. */
export function now() {
  return Date.now() + ahead;
}

/** Returns a time as its age, such as "3 min ago", with the full time as its title. */
export function ago(iso, nothing = '–') {
  if (!iso) return nothing;
  return h('time', { datetime: iso, title: inFull(iso), 'data-relative': true }, relative(iso));
}

/** Returns the time of day to the millisecond, with its zone. */
export function at(iso) {
  return h('time', { datetime: iso, title: inFull(iso) }, timeOfDay(iso), ' ', h('span', { class: 'zone' }, zone(iso)));
}

/** Returns the zone in which times are shown, as its offset from UTC at `iso`. */
export function zone(iso = new Date(now()).toISOString()) {
  const minutes = -new Date(iso).getTimezoneOffset();
  if (!minutes) return 'UTC';
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? '−' : '+'}${pad(Math.floor(size / 60))}:${pad(size % 60)}`;
}

function relative(iso) {
  const seconds = Math.round((now() - Date.parse(iso)) / 1000);
  if (Math.abs(seconds) < 1) return 'now';
  return seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

export function timeOfDay(iso) {
  const date = new Date(iso);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

export function day(iso) {
  const date = new Date(iso);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

function inFull(iso) {
  return `${day(iso)} ${timeOfDay(iso)} ${zone(iso)}, ${iso} in UTC`;
}

function pad(value, digits = 2) {
  return String(value).padStart(digits, '0');
}

/** Converts an RFC 3339 time to the value of a `datetime-local` field. */
export function toField(iso) {
  if (!iso || Number.isNaN(Date.parse(iso))) return '';
  return `${day(iso)}T${timeOfDay(iso).slice(0, 8)}`;
}

/** Converts the value of a `datetime-local` field to an RFC 3339 time. */
export function fromField(value) {
  return value ? new Date(value).toISOString() : '';
}

setInterval(() => {
  for (const time of document.querySelectorAll('time[data-relative]')) {
    const text = relative(time.dateTime);
    if (time.firstChild.data !== text) time.firstChild.data = text;
  }
}, 1000);

/** Resolves after `ms` milliseconds, or when `stop` aborts. */
export function pause(ms, stop) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      stop.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, stop.aborted ? 0 : ms);
    stop.addEventListener('abort', over);
  });
}
