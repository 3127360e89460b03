// Creates elements and updates the document with them. Data becomes only text nodes and attributes: no function
// here parses markup.

const SVG = 'http://www.w3.org/2000/svg';

/** Creates an HTML element: `h('p', { class: 'note' }, 'text', child)`. Empty children are left out. */
export function h(tag, ...content) {
  return fill(document.createElement(tag), content);
}

/** Creates an SVG element, like `h`. */
export function svg(tag, ...content) {
  return fill(document.createElementNS(SVG, tag), content);
}

function fill(element, content) {
  const [first] = content;
  if (first && typeof first === 'object' && !Array.isArray(first) && !(first instanceof Node)) {
    content = content.slice(1);
    for (const [name, value] of Object.entries(first)) assign(element, name, value);
  }
  // Children are added one by one. There may be more of them than the arguments that a call can have.
  for (const child of content.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(String(child)));
  }
  return element;
}

const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e01ef}]/gu;

/**
 * Returns `text` with escapes for control characters, characters that change the text direction, and characters
 * without a width.
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

/** Replaces the children of `container` by `children`. Only differences are changed, so that focus, selection and open details stay. */
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
  // The state of a checkbox is not its attribute.
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
    // A section that the operator has opened stays open.
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
