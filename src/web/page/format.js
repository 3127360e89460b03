// Numbers and durations as text.

const plain = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export function number(value) {
  return value === null || value === undefined ? '–' : plain.format(value);
}

/** Returns a count with its noun: `counted(1, 'delivery', 'deliveries')` is "1 delivery". */
export function counted(count, one, many = `${one}s`) {
  return `${plain.format(count)} ${count === 1 ? one : many}`;
}

export function percent(part, whole) {
  return whole ? `${Math.round((100 * part) / whole)} %` : '–';
}

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return `${short.format(value / 1024 ** power)} ${units[power]}`;
}

/** Returns a duration, given in milliseconds, as text. */
export function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${short.format(ms / 1000)} s`;
  return span(Math.floor(ms / 1000));
}

/** Returns a duration, given in whole seconds, in its two largest units. */
export function span(seconds) {
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  const from = units.findIndex(([, size]) => seconds >= size);
  if (from < 0) return '0 s';
  const [[unit, size], lesser] = [units[from], units[from + 1]];
  const rest = lesser ? Math.floor((seconds % size) / lesser[1]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${lesser[0]}` : ''}`;
}

/** Returns a name as words: `in_flight` is "in flight". */
export function words(name) {
  return String(name).replaceAll('_', ' ');
}
