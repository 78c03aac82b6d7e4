// The picture of a call graph above a table: services in layers, from callers to called ones, and lines
// between them. Names are text only. The kernel places the services; here they get as much of the width
// as there is. picture.py draws the same for a saved notebook.

import { SVG, make, setAttribute, setText, shortened } from "../live/dom.js";

const SIZES = { // in pixels; picture.py has the same, except for the least ones
  row: 32,
  height: 22,
  padding: 8,
  top: 6,
  edge: 30, // at the right, for calls of a service by itself or by its neighbour
  gap: [24, 56], // least and greatest distance of two layers
  narrowest: 72, // width of a service whose name is cut
};
const LEGEND = "Wide lines: many calls. Dashed and red: some of them fail.";

function makeSvg(tag, className = "", attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  if (className) node.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** Keep one element for each key, in this order, so that an update keeps the focus. */
function keyed(parent, kept, items, keyOf, create) {
  const rest = new Map(kept);
  kept.clear();
  const nodes = items.map((item) => {
    const key = keyOf(item);
    const node = rest.get(key) ?? create(item);
    rest.delete(key);
    kept.set(key, node);
    return node;
  });
  for (const node of rest.values()) node.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  return nodes;
}

/** Ids of services in place of `type.id`, where these differ. */
function shortNames(labels) {
  const ids = labels.map((label) => (/^[\w-]+(\.[\w-]+)+$/.test(label) ? label.split(".").at(-1) : label));
  return labels.map((label, index) => (ids.filter((id) => id === ids[index]).length === 1 ? ids[index] : label));
}

function linePath(from, to, bends) {
  if (from === to) return `M${from.right} ${from.y - 6}c26 -12 26 24 5 12`;
  if (from.left === to.left) {
    const out = from.right + SIZES.edge;
    return `M${from.right} ${from.y + 3}C${out} ${from.y} ${out} ${to.y} ${from.right + 5} ${to.y - 4}`;
  }
  const back = from.left > to.left;
  let [x, y] = back ? [from.left, from.y + 5] : [from.right, from.y];
  const end = back ? { left: to.right + 5, right: to.right + 5, y: to.y + 5 } : { left: to.left - 5, right: to.left - 5, y: to.y };
  let path = `M${x} ${y}`;
  for (const next of [...bends, end]) {
    const middle = (x + next.left) / 2;
    path += `C${middle} ${y} ${middle} ${next.y} ${next.left} ${next.y}H${next.right}`;
    [x, y] = [next.right, next.y];
  }
  return path;
}

function arrowPath(from, to) {
  if (from.left < to.left) return `M${to.left} ${to.y}l-8 -4.5v9z`;
  const offset = from === to ? 6 : from.left > to.left ? 5 : -4;
  return `M${to.right} ${to.y + offset}l8 -4.5v9z`;
}

export class GraphView {
  constructor() {
    this.onPick = null; // called with the full name of a service that is chosen
    this.node = make("figure", "graph");
    this.viewport = make("div", "picture");
    this.svg = makeSvg("svg", "", { role: "group" });
    this.lines = makeSvg("g");
    this.services = makeSvg("g");
    this.svg.append(this.lines, this.services);
    this.viewport.append(this.svg);
    this.caption = make("figcaption", "", { role: "status" });
    this.node.append(this.viewport, this.caption);
    this.nodesByName = new Map();
    this.linesByEnds = new Map();
    this.graph = null;
    this.width = 0;
    this.chosen = null; // name of the service whose lines are emphasized
    this.current = null; // name of the service that the Tab key reaches
    this.svg.addEventListener("keydown", (event) => this.onKey(event));
    this.svg.addEventListener("pointerover", (event) => this.pointAt(event.target));
    this.svg.addEventListener("pointerleave", () => this.pointAt(null));
    this.svg.addEventListener("focusin", (event) => this.pointAt(event.target));
    this.svg.addEventListener("focusout", () => this.pointAt(null));
    this.svg.addEventListener("click", (event) => this.onClick(event));
  }

  /** @param graph {label, nodes, lines} as encoded by picture.py; null for none */
  paint(graph) {
    this.node.hidden = !graph;
    if (!graph) return;
    const width = this.viewport.clientWidth;
    if (!width || (graph === this.graph && width === this.width)) return; // it is painted again when it is shown
    this.graph = graph;
    this.width = width;
    this.draw();
    this.describe(null);
  }

  draw() {
    const { label, nodes, lines } = this.graph;
    setAttribute(this.svg, "aria-label", label);
    const names = nodes.map(([name]) => name);
    if (!names.includes(this.chosen)) this.chosen = null;
    if (!names.includes(this.current)) this.current = names[0] ?? null;
    const boxOf = this.columns();
    this.boxes = nodes.map(([, , place]) => boxOf(place));
    const all = [...this.boxes, ...lines.flatMap(([, , , , bends]) => bends.map(boxOf))];
    const width = Math.max(...all.map(({ right }) => right)) + SIZES.edge;
    const height = Math.max(...all.map(({ y }) => y)) + SIZES.height / 2 + SIZES.top;
    setAttribute(this.svg, "width", String(width));
    setAttribute(this.svg, "height", String(height));
    const drawn = keyed(
      this.lines, this.linesByEnds, lines, ([from, to]) => JSON.stringify([names[from], names[to]]), () => {
        const group = makeSvg("g", "call");
        group.append(makeSvg("path", "reach"), makeSvg("path", "line"), makeSvg("path", "arrow"));
        return group;
      },
    );
    drawn.forEach((group, index) => this.drawLine(group, lines[index], boxOf));
    const placed = keyed(this.services, this.nodesByName, nodes, ([name]) => name, () => {
      const group = makeSvg("g", "service", { role: "button" });
      group.append(makeSvg("rect", "", { height: SIZES.height, rx: 4 }), makeSvg("text"));
      return group;
    });
    placed.forEach((group, index) => this.drawService(group, nodes[index], this.labels[index], this.boxes[index]));
    this.emphasize();
  }

  /** Choose the labels, and give the layers their widths; return the function from a place to its box. */
  columns() {
    this.context ??= document.createElement("canvas").getContext("2d");
    this.context.font = `12px ${getComputedStyle(this.node).fontFamily}`;
    const layers = 1 + Math.max(...this.graph.nodes.map(([, , [layer]]) => layer));
    const free = this.width - SIZES.edge - 4;
    const gaps = Math.max(1, layers - 1);
    const sum = (widths) => widths.reduce((total, one) => total + one, 0);
    this.labels = this.graph.nodes.map(([, label]) => label);
    let widths = this.widths(layers);
    if (sum(widths) + SIZES.gap[0] * gaps > free) {
      this.labels = shortNames(this.labels);
      widths = this.widths(layers);
    }
    const gap = Math.min(SIZES.gap[1], Math.max(SIZES.gap[0], (free - sum(widths)) / gaps));
    let longest = Math.max(...widths);
    const limited = () => widths.map((one) => Math.min(one, longest));
    while (longest > SIZES.narrowest && sum(limited()) + gap * (layers - 1) > free) longest -= 1;
    widths = limited();
    const lefts = widths.map((_, layer) => 2 + sum(widths.slice(0, layer)) + gap * layer);
    return ([layer, row]) => ({
      left: lefts[layer],
      right: lefts[layer] + widths[layer],
      y: SIZES.top + SIZES.row * row + SIZES.height / 2,
    });
  }

  /** Widths of the layers with all labels in full. */
  widths(layers) {
    const widths = Array(layers).fill(0);
    this.graph.nodes.forEach(([, , [layer]], index) => {
      const width = Math.ceil(this.context.measureText(this.labels[index]).width) + 2 * SIZES.padding;
      widths[layer] = Math.max(widths[layer], width);
    });
    return widths;
  }

  drawLine(group, [from, to, width, failing, bends, text], boxOf) {
    const ends = [this.boxes[from], this.boxes[to]];
    const path = linePath(...ends, bends.map(boxOf));
    const [reach, line, arrow] = group.children;
    setAttribute(reach, "d", path);
    setAttribute(line, "d", path);
    setAttribute(line, "stroke-width", String(width));
    setAttribute(arrow, "d", arrowPath(...ends));
    group.classList.toggle("failing", failing);
    Object.assign(group, { description: text, ends: [from, to] });
  }

  drawService(group, [name, label, , own, text], short, { left, right, y }) {
    const [rect, shown] = group.children;
    setAttribute(rect, "x", String(left));
    setAttribute(rect, "y", String(y - SIZES.height / 2));
    setAttribute(rect, "width", String(right - left));
    setAttribute(shown, "x", String(left + SIZES.padding));
    setAttribute(shown, "y", String(y + 4));
    setText(shown, shortened(this.context, short, right - left - 2 * SIZES.padding));
    setAttribute(group, "aria-label", `${label}. ${text}`);
    setAttribute(group, "tabindex", name === this.current ? "0" : "-1");
    group.classList.toggle("own", own);
    Object.assign(group, { description: `${label}${own ? ", this notebook" : ""}\n${text}`, name });
  }

  // -- pointer and keys

  pointAt(target) {
    this.describe(target?.closest("g.service, g.call") ?? this.nodesByName.get(this.chosen) ?? null);
  }

  describe(group) {
    setText(this.caption, group?.description ?? LEGEND);
    this.caption.classList.toggle("legend", !group);
  }

  onClick({ target }) {
    const group = target.closest("g.service");
    if (group) this.choose(group);
  }

  /** Choose a service, or none if it was chosen before. */
  choose({ name }) {
    this.chosen = this.chosen === name ? null : name;
    this.moveTo(name);
    this.emphasize();
    if (this.chosen !== null) this.onPick?.(name);
  }

  emphasize() {
    const chosen = this.graph.nodes.findIndex(([name]) => name === this.chosen);
    const near = new Set([chosen]);
    for (const group of this.lines.children) {
      const touches = group.ends.includes(chosen);
      group.classList.toggle("faded", chosen >= 0 && !touches);
      if (touches) group.ends.forEach((index) => near.add(index));
    }
    [...this.services.children].forEach((group, index) => {
      group.classList.toggle("faded", chosen >= 0 && !near.has(index));
      setAttribute(group, "aria-pressed", String(index === chosen));
    });
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const group = event.target.closest("g.service");
    if (!group) return;
    if (event.key === "Enter" || event.key === " ") this.choose(group);
    else if (event.key === "Escape" && this.chosen !== null) this.choose({ name: this.chosen });
    else if (event.key.startsWith("Arrow")) this.moveTo(this.neighbour(group.name, event.key));
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook would handle the key too
  }

  /** Name of the nearest service in the direction of an arrow key. */
  neighbour(name, key) {
    const index = this.graph.nodes.findIndex(([one]) => one === name);
    const { left, y } = this.boxes[index];
    const sideways = key === "ArrowLeft" || key === "ArrowRight";
    const sign = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1;
    let found = name;
    let nearest = Infinity;
    this.boxes.forEach((box, at) => {
      const [along, across] = sideways ? [box.left - left, box.y - y] : [box.y - y, box.left - left];
      const distance = along * sign + Math.abs(across) * 3;
      if (along * sign > 0 && (sideways || across === 0) && distance < nearest) {
        [nearest, found] = [distance, this.graph.nodes[at][0]];
      }
    });
    return found;
  }

  moveTo(name) {
    this.nodesByName.get(this.current)?.setAttribute("tabindex", "-1");
    this.current = name;
    const group = this.nodesByName.get(name);
    group?.setAttribute("tabindex", "0");
    group?.focus();
  }
}
