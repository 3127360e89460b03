// The addresses of views, which operators can share: `#/events/evt_1` or `#/events?type=invoice.*`.

/** Returns `{ name, id, query }` of an address, or null if it is not the address of a view. */
export function parse(hash) {
  const found = /^(?:#\/([a-z]*)(?:\/([^?]+))?(?:\?(.*))?|#?)$/.exec(hash);
  if (!found) return null;
  const [, name, id, query] = found;
  let decoded = null;
  try {
    decoded = id ? decodeURIComponent(id) : null;
  } catch {
    return null;
  }
  return { name: name || 'overview', id: decoded, query: Object.fromEntries(new URLSearchParams(query ?? '')) };
}

/** Returns the address of a view. */
export function link(name, id = null, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/${name}${id ? `/${encodeURIComponent(id)}` : ''}${given.length ? `?${new URLSearchParams(given)}` : ''}`;
}
