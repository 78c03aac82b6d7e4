// DOM helpers. Remote text is only set as text (textContent, or text attributes), never as markup.

export const SVG = "http://www.w3.org/2000/svg";

export function make(tag, className = "", attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set a text; parts between backquotes are shown as code. */
export function setQuoted(node, text) {
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  const parts = text.split(/`([^`]+)`/); // text and code, alternating
  node.replaceChildren(...parts.map((part, index) => {
    if (index % 2 === 0) return part;
    const code = make("code");
    code.textContent = part;
    return code;
  }));
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Give a parent one child per item. Existing children are reused, which keeps focus and selection. */
export function fill(parent, items, create, update) {
  while (parent.children.length > items.length) parent.lastChild.remove();
  items.forEach((item, index) => {
    if (index === parent.children.length) parent.append(create(item));
    update(parent.children[index], item, index);
  });
}

/** Put nodes into a parent in this order, moving as few as possible. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
}

/** A text that fits into a width; `context` is that of a canvas with its font. */
export function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high - 1) {
    const middle = (low + high) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
    else high = middle;
  }
  return `${text.slice(0, low)}…`;
}
