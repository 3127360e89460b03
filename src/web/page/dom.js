// Builds elements and brings what is on the screen up to date with them. Data only ever
// becomes text nodes and attributes: nothing here parses markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An HTML element: `h('p', { class: 'note' }, 'text', child)`. Empty children are left out. */
export function h(tag, ...content) {
  return fill(document.createElement(tag), content);
}

/** The same for SVG. */
export function svg(tag, ...content) {
  return fill(document.createElementNS(SVG, tag), content);
}

function fill(element, content) {
  const [first] = content;
  if (first && typeof first === 'object' && !Array.isArray(first) && !(first instanceof Node)) {
    content = content.slice(1);
    for (const [name, value] of Object.entries(first)) assign(element, name, value);
  }
  // One by one: there may be more of them than a call takes arguments.
  for (const child of content.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(String(child)));
  }
  return element;
}

const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e01ef}]/gu;

/**
 * `text` with escapes in place of what is not seen: control characters, those that turn the
 * direction of what follows, and those without a width.
 */
export function visible(text) {
  return text.replace(UNSEEN, (char) => `\\u{${char.codePointAt(0).toString(16).padStart(4, '0')}}`);
}

function assign(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith('on')) {
    element[name] = value;
    (element.handlers ??= []).push(name);
  } else if (name === 'key') {
    element.dataset.key = value;
  } else {
    const isText = typeof value === 'string' && (name === 'title' || name === 'aria-label');
    element.setAttribute(name, value === true ? '' : isText ? visible(value) : value);
  }
}

/** Makes `container` hold `children`, changing only what differs: focus, selection and open details stay. */
export function show(container, ...children) {
  const fresh = document.createDocumentFragment();
  for (const child of children.flat(Infinity)) if (child) fresh.append(child);
  patchChildren(container, fresh);
}

function patch(old, fresh) {
  if (old.nodeName !== fresh.nodeName || keyOf(old) !== keyOf(fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  patchAttributes(old, fresh);
  // What was pressed is kept beside the attribute.
  if (old.type === 'checkbox') old.checked = fresh.checked;
  for (const name of old.handlers ?? []) old[name] = null;
  for (const name of fresh.handlers ?? []) old[name] = fresh[name];
  old.handlers = fresh.handlers;
  patchChildren(old, fresh);
}

function patchAttributes(old, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // A section that the operator opened is closed by the operator.
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
}

function patchChildren(old, fresh) {
  const known = new Map();
  for (const child of old.childNodes) if (keyOf(child)) known.set(keyOf(child), child);
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = keyOf(child);
    const match = key ? known.get(key) : next && !keyOf(next) ? next : null;
    if (!match) {
      old.insertBefore(child, next);
      continue;
    }
    if (match === next) next = next.nextSibling;
    else old.insertBefore(match, next);
    patch(match, child);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function keyOf(node) {
  return node.dataset?.key;
}
