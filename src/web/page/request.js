// The request of an attempt, as text and as a curl command. The bridge does not store requests: every part except
// secrets follows from the event, the attempt and the target.

/** The longest body as an argument of a command. Linux allows 128 KiB. */
const LONGEST_ARGUMENT = 100_000;

/**
 * Returns `{ url, headers }` of an attempt. `headers` are `[name, value]`, and the value of a secret is null.
 * `target` is a target of the overview.
 */
export function requestOf({ event, delivery, attempt, target, version }) {
  const url = new URL(target.url);
  const given = [
    ['host', url.host],
    ['accept', '*/*'],
    ['content-type', 'application/json'],
    ['user-agent', `pepay-bridge/${version}`],
    ['webhook-id', event.id],
    ['webhook-timestamp', String(Math.floor(Date.parse(attempt.started_at) / 1000))],
    target.signed ? ['webhook-signature', null] : null,
    ['idempotency-key', event.id],
    ['x-pepay-event', event.type],
    ['x-pepay-event-id', event.id],
    event.environment ? ['x-pepay-network-environment', event.environment] : null,
    ['pepay-bridge-source', event.source],
    ['pepay-bridge-attempt', String(attempt.number)],
    ['pepay-bridge-sequence', String(event.sequence)],
    delivery.replays ? ['pepay-bridge-replay', String(delivery.replays)] : null,
  ].filter(Boolean);
  const configured = target.headers ?? [];
  const headers = [...given.filter(([name]) => !configured.includes(name)), ...configured.map((name) => [name, null])];
  return { url: target.url, headers };
}

/** Returns the request as text: the request line, and a line per header. */
export function inText({ url, headers }) {
  return [`POST ${url}`, ...headers.map(([name, value]) => `${name}: ${value ?? '(secret, not shown)'}`)].join('\n');
}

/**
 * Returns a command that makes the same request. A secret is a shell variable. The signature is left out, since it
 * is valid only for its timestamp.
 */
export function curl({ url, headers }, { id, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const variable = (name) => `"${name}: \$${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}"`;
  const sent = headers.filter(([name]) => !['host', 'webhook-signature'].includes(name));
  const lines = sent.map(([name, value]) => `-H ${value === null ? variable(name) : quoted(`${name}: ${value}`)}`);
  const data = body.length > LONGEST_ARGUMENT ? `--data-binary @${quoted(`${id}.json`)}` : `--data-raw ${quoted(body)}`;
  return [`curl -X POST ${quoted(url)}`, ...lines, data].join(' \\\n  ');
}
