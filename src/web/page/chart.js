// Small charts of counts over time: one chart per count, on one scale, and a table with the same numbers.

import { h, svg } from './dom.js';
import { table } from './table.js';
import { counted, number, span } from './format.js';
import { at, now, timeOfDay } from './time.js';

const BARS = 60;
const WIDTH = 240;
const HEIGHT = 56;

/** The longest span of a chart, in seconds. Its history has one entry per minute. */
export const DAY = 86_400;
/** The spans of a chart, in seconds. Each has 60 bars. */
export const SPANS = [300, 900, 3600, DAY];

/** Sums a history of counts into equal buckets that end now: `[{ at, received, unique, delivered, failed }]`. */
export function buckets(history, seconds, names) {
  const width = (seconds * 1000) / BARS;
  // Buckets begin at multiples of their width, so that bars move and do not flicker.
  const end = Math.ceil(now() / width) * width;
  const start = end - seconds * 1000;
  const sums = Array.from({ length: BARS }, (_, index) =>
    ({ at: new Date(start + index * width).toISOString(), ...Object.fromEntries(names.map((name) => [name, 0])) }));
  for (const point of history) {
    const index = Math.floor((Date.parse(point.at) - start) / width);
    if (index >= 0 && index < BARS) for (const name of names) sums[index][name] += point[name];
  }
  return sums;
}

/**
 * Returns the charts. `counts` are `{ name, label }`. `pointed` is the index of the bar under the pointer, or
 * null. `point` is called with a new index.
 */
export function charts({ history, seconds, counts, pointed, point }) {
  const sums = buckets(history, seconds, counts.map(({ name }) => name));
  const highest = Math.max(1, ...sums.flatMap((sum) => counts.map(({ name }) => sum[name])));
  const each = span(seconds / BARS);
  return [
    h('div', { class: 'charts' }, counts.map(({ name, label }) =>
      chart({ name, label, sums, highest, seconds, each, pointed, point }))),
    h('details', { key: 'numbers' }, h('summary', 'The same as a table'),
      h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Counts over time' }, table({
        caption: `Counts in each ${each}, newest first`,
        columns: [
          { label: 'From', cell: (sum) => at(sum.at), main: true },
          ...counts.map(({ name, label }) => ({ label, number: true, cell: (sum) => number(sum[name]) })),
        ],
        rows: [...sums].reverse(),
        key: (sum) => sum.at,
      }))),
  ];
}

function chart({ name, label, sums, highest, seconds, each, pointed, point }) {
  const total = sums.reduce((sum, bucket) => sum + bucket[name], 0);
  const peak = sums.reduce((best, bucket) => (bucket[name] > best[name] ? bucket : best));
  const description = total === 0
    ? `None in the last ${span(seconds)}.`
    : `${number(total)} in the last ${span(seconds)}; at most ${number(peak[name])} in ${each}, at ${timeOfDay(peak.at).slice(0, 8)}.`;
  const step = WIDTH / BARS;
  const bars = sums.map((sum, index) => {
    const height = sum[name] === 0 ? 0 : Math.max((HEIGHT * sum[name]) / highest, 1.5);
    return svg('rect', {
      class: index === pointed ? 'bar pointed' : 'bar', x: (index * step + 0.5).toFixed(2), width: (step - 1).toFixed(2),
      y: (HEIGHT - height).toFixed(2), height: height.toFixed(2),
    });
  });
  const picture = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-labelledby': `${name}-title ${name}-desc`,
    onpointermove: (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      point(Math.min(BARS - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * BARS))));
    },
    onpointerleave: () => point(null),
  },
  svg('title', { id: `${name}-title` }, `${label} over time`), svg('desc', { id: `${name}-desc` }, description),
  svg('rect', { class: 'ground', width: WIDTH, height: HEIGHT }), bars);
  const reading = sums[pointed];
  return h('figure', { class: `chart ${name}`, key: name },
    h('figcaption', h('span', { class: 'name' }, label),
      h('span', { class: 'total' }, reading ? number(reading[name]) : number(total)),
      h('span', { class: 'note' }, reading ? `from ${timeOfDay(reading.at).slice(0, 8)}` : `in ${span(seconds)}`)),
    picture,
    h('div', { class: 'axis', 'aria-hidden': true }, h('span', `${span(seconds)} ago`), h('span', `top: ${number(highest)} in ${each}`), h('span', 'now')));
}

/** Returns one bar that shows parts of a whole. `parts` are `{ label, count }`. */
export function share({ label, parts }) {
  const whole = parts.reduce((sum, { count }) => sum + count, 0);
  let from = 0;
  const pieces = parts.map(({ count }, index) => {
    const width = whole ? (100 * count) / whole : 0;
    const piece = svg('rect', { class: `part part-${index}`, x: from.toFixed(2), width: Math.max(width - 0.4, 0).toFixed(2), height: 8 });
    from += width;
    return piece;
  });
  return svg('svg', { class: 'share', viewBox: '0 0 100 8', preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    svg('rect', { class: 'ground', width: 100, height: 8 }), pieces);
}
