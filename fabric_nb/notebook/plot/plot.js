// The live chart: paints the picture that the kernel sends, shows the values at the pointer, and
// requests the picture of another range of x.

import { fill, make, setAttribute, setText } from "../live/dom.js";
import { KernelConnection, textIn } from "../live/kernel.js";
import { COLOURS, NO_VALUE, paintAxes, paintMarks, Projection, TOP } from "./marks.js";
import { bounded, includes, moved, zoomed } from "./range.js";
import { fileName, offer, SvgRecorder } from "./save.js";

const EDGE = { top: 8, right: 12, bottom: 38 };
const CLICK = 5; // pixels below which a drag is a click
const REACH = 8; // a value is looked for as far from the pointer as this part of the width
const WHEEL = 1.0015; // factor of a pixel of the wheel
const LINE_HEIGHT = 16; // pixels of the wheel's lines
const HINT = "Click the chart first, or hold Ctrl, to zoom with the wheel.";
const HELP = [
  "Drag to zoom; hold Shift, or drag the axis, to move.",
  "Wheel: zoom, after a click into the chart or with Ctrl.",
  "Double-click: show all again.",
  "Keys: arrows select a value, + and − zoom, Page Up and Page Down move, 0 shows all again.",
].join("\n");
const MINUTE = 60;
const DAY = 86400;
const DATE = "2026-11-25 ".length;

function decoded(encoded, Type) {
  return new Type(Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0)).buffer);
}

/** Format a number with the digits that a resolution of `step` needs. */
function numberText(value, step) {
  if (Math.abs(value) >= 1e12 || step < 1e-9) return value.toPrecision(6);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const formats = new Map(); // by zone

/** Format a time in a zone with an IANA name; the browser's without one. */
function timeText(seconds, step, zone) {
  if (!formats.has(zone)) {
    const fields = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };
    formats.set(zone, new Intl.DateTimeFormat("en-US", { ...fields, hourCycle: "h23", timeZone: zone || undefined }));
  }
  const moment = new Date(Math.floor(seconds * 1000 + 1e-3));
  const part = Object.fromEntries(formats.get(zone).formatToParts(moment).map(({ type, value }) => [type, value]));
  const day = `${part.year}-${part.month}-${part.day}`;
  if (step >= DAY) return day;
  const clock = `${part.hour}:${part.minute}`;
  if (step >= MINUTE) return `${day} ${clock}`;
  const fraction = step >= 1 ? "" : moment.toISOString().slice(19, 23);
  return `${day} ${clock}:${part.second}${fraction}`;
}

function axisText(axis, value) {
  return axis.kind === "time" ? timeText(value, axis.step, axis.zone) : numberText(value, axis.step);
}

class PlotView {
  constructor(model, el) {
    this.picture = { title: "", columns: 1, lines: [], x: {}, y: {}, notes: [], state: "", summary: "" };
    this.column = null; // at the pointer, or selected by keys
    this.target = null; // range of x that was chosen; null: that of the picture
    this.drag = null;
    this.hidden = new Set(); // names of lines
    this.left = 60;
    this.columns = 0; // last width sent to the kernel
    this.build(el);
    this.kernel = new KernelConnection(model, this);
    this.setPicture(JSON.parse(model.get("_whole")));
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.area);
    // The theme's colours are CSS variables, and a canvas must be repainted when they change.
    this.themes = new MutationObserver(() => this.schedule());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name"] });
    this.timer = setInterval(() => this.tick(), 1000);
    this.describe();
  }

  build(el) {
    this.root = make("section", "fabric-plot");
    this.head = make("div", "head");
    this.title = make("span", "title");
    this.what = make("span", "what");
    this.state = make("span", "state badge", { role: "status" });
    this.legend = make("span", "legend", { role: "group", "aria-label": "Lines" });
    this.tools = make("span", "tools");
    this.reset = this.tool("Show all", "Show all rows again (double-click, or 0)", () => this.lookAt(null));
    this.tool("SVG", "Save this picture as SVG", () => this.saveSvg());
    this.tool("PNG", "Save this picture as PNG", () => this.savePng());
    this.head.append(this.title, this.what, this.state, this.legend, this.tools);
    this.area = make("div", "area");
    this.canvas = make("canvas", "", { tabindex: "0", role: "img", title: HELP });
    this.brush = make("div", "brush", { hidden: "" });
    this.cursor = make("div", "cursor", { hidden: "" });
    this.dots = make("div", "dots");
    this.tip = make("div", "tip", { hidden: "", "aria-hidden": "true" });
    this.hint = make("div", "hint", { hidden: "", role: "status" });
    this.area.append(this.canvas, this.brush, this.cursor, this.dots, this.tip, this.hint);
    this.notes = make("div", "notes", { role: "status" });
    this.announced = make("div", "unseen", { role: "status" });
    this.root.append(this.head, this.notes, this.area, this.announced);
    el.append(this.root);
    const on = (type, listener, options) => this.canvas.addEventListener(type, listener, options);
    on("pointerdown", (event) => this.onDown(event));
    on("pointermove", (event) => this.onMove(event));
    on("pointerup", (event) => this.onUp(event));
    on("pointercancel", () => this.endDrag());
    on("pointerleave", () => this.point(null));
    on("blur", () => this.point(null));
    on("dblclick", () => this.lookAt(null));
    on("wheel", (event) => this.onWheel(event), { passive: false });
    on("keydown", (event) => this.onKey(event));
  }

  tool(text, title, act) {
    const button = make("button", "", { type: "button", title, "aria-label": title });
    button.textContent = text;
    button.addEventListener("click", act);
    this.tools.append(button);
    return button;
  }

  dispose() {
    this.kernel.dispose();
    clearInterval(this.timer);
    clearTimeout(this.hinting);
    this.observer.disconnect();
    this.themes.disconnect();
    cancelAnimationFrame(this.frame);
  }

  // -- messages

  receive(content, buffers) {
    if (content.type === "picture") this.setPicture(JSON.parse(textIn(buffers)));
  }

  restore(text) {
    this.setPicture(JSON.parse(text));
  }

  setPicture(picture) {
    for (const line of picture.lines) {
      if (line.hidden) continue;
      line.first = decoded(line.first, Uint16Array);
      line.second = decoded(line.second, Uint16Array);
      if (line.values) line.values = byColumn(line.first, decoded(line.values, Float64Array));
      if (line.points) line.points = decoded(line.points, Uint16Array);
    }
    this.picture = picture;
    if (!picture.lines.length) this.column = null;
    this.schedule();
  }

  hello() {
    this.columns = 0;
    this.resize();
    if (this.target) this.kernel.send({ type: "view", range: this.target });
    if (this.hidden.size) this.kernel.send({ type: "hide", names: [...this.hidden] });
  }

  resize() {
    const columns = Math.round(this.area.clientWidth - this.left - EDGE.right);
    this.schedule();
    if (columns < 10 || columns === this.columns) return;
    const type = this.columns ? "resize" : "hello";
    this.columns = columns;
    const { hides } = this.kernel;
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    this.kernel.send(type === "hello" ? { type, columns, hides, zone } : { type, columns });
  }

  setLost(lost) {
    this.root.classList.toggle("lost", lost);
    this.root.classList.toggle("stored", lost && this.kernel.stored);
    this.schedule();
  }

  // -- painting

  schedule() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = null;
    const { clientWidth: width, clientHeight: height } = this.area;
    if (!this.root.isConnected || width < 100) return; // the observer will schedule it again
    const scale = window.devicePixelRatio || 1;
    const pixels = [Math.round(width * scale), Math.round(height * scale)];
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) {
      [this.canvas.width, this.canvas.height] = pixels;
    }
    const { fontFamily } = getComputedStyle(this.canvas);
    this.ink = this.themeInk();
    const context = this.canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${fontFamily}`;
    this.measure(context);
    this.plot = { left: this.left, top: EDGE.top, right: width - EDGE.right, bottom: height - EDGE.bottom };
    this.projection = null;
    if (this.picture.x.ticks?.length || this.picture.lines.length) this.paintPlot(context, this.plot);
    this.overlay();
  }

  paintPlot(context, plot) {
    const shown = this.target ?? this.range;
    this.projection = new Projection(this.picture, plot, shown);
    paintAxes(context, this.picture, plot, shown, this.ink);
    paintMarks(context, this.visible(), this.projection);
  }

  /** The picture without lines that were hidden since it was computed. */
  visible() {
    const lines = this.picture.lines.map((line) => (this.hidden.has(line.name) ? { name: line.name } : line));
    return { ...this.picture, lines };
  }

  /** Range of x of the picture. */
  get range() {
    return [this.picture.x.low, this.picture.x.high];
  }

  /** Adapt the left margin to the longest label. It only grows, to avoid flicker. */
  measure(context) {
    const widths = (this.picture.y.ticks ?? []).map(([, text]) => context.measureText(text).width);
    const left = Math.min(160, Math.ceil(Math.max(0, ...widths)) + 14);
    if (left <= this.left) return;
    this.left = left;
    this.resize();
  }

  /** Update all that is drawn above the canvas: it changes with the pointer, and the canvas does not. */
  overlay() {
    this.paintHead();
    this.paintBrush();
    this.paintPointer();
  }

  scheduleOverlay() {
    if (this.frame) return;
    this.overlaying ??= requestAnimationFrame(() => {
      this.overlaying = null;
      if (!this.frame && this.plot) this.overlay();
    });
  }

  paintHead() {
    const { title, what, lines, notes } = this.picture;
    setText(this.title, title);
    setText(this.what, what ?? "");
    setText(this.state, this.stateText());
    setText(this.notes, notes.join("\n"));
    this.reset.hidden = !(this.target || this.picture.zoomed);
    fill(this.legend, lines, () => this.legendEntry(), (entry, line, place) => {
      const [swatch, name, value] = entry.children;
      swatch.style.background = COLOURS[place];
      setText(name, line.name);
      const hidden = this.hidden.has(line.name);
      setAttribute(entry, "aria-pressed", String(!hidden));
      setAttribute(entry, "title", `${line.name}: ${hidden ? "show" : "hide"} (Shift: show only this)`);
      setText(value, hidden || line.hidden ? "" : line.last);
    });
  }

  legendEntry() {
    const entry = make("button", "series", { type: "button" });
    entry.append(make("span", "swatch"), make("span", "name"), make("span", "value"));
    entry.addEventListener("click", (event) => this.toggle(entry.children[1].textContent, event.shiftKey));
    return entry;
  }

  paintBrush() {
    const drag = this.drag?.kind === "zoom" ? this.drag : null;
    this.brush.hidden = !drag || Math.abs(drag.to - drag.from) < CLICK;
    if (this.brush.hidden) return;
    const { top, bottom } = this.plot;
    const left = Math.min(drag.from, drag.to);
    Object.assign(this.brush.style, {
      left: `${left}px`,
      width: `${Math.abs(drag.to - drag.from)}px`,
      top: `${top}px`,
      height: `${bottom - top}px`,
    });
  }

  paintPointer() {
    const shown = this.column !== null && this.projection !== null && !this.drag;
    const x = shown ? this.projection.x(this.column) : 0;
    const { left, right, top, bottom } = this.plot;
    const inside = shown && x >= left - 1 && x <= right + 1;
    this.cursor.hidden = !inside;
    const marked = inside ? this.marked() : [];
    this.tip.hidden = !marked.length;
    const dotted = this.picture.kind === "bar" ? [] : marked;
    fill(this.dots, dotted, () => make("i"), (dot, { place, column, line }) => {
      const [a, b] = [this.projection.x(column), this.projection.y(line.second[column])];
      dot.style.transform = `translate(${a - 3}px, ${b - 3}px)`;
      dot.style.background = COLOURS[place];
    });
    if (!inside) return;
    Object.assign(this.cursor.style, { top: `${top}px`, height: `${bottom - top}px`, transform: `translateX(${Math.round(x)}px)` });
    if (marked.length) this.paintTip(x, marked);
  }

  /** Lines that have a value at the pointer. */
  marked() {
    return this.picture.lines
      .map((line, place) => ({ line, place, column: this.nearest(line) }))
      .filter(({ line, column }) => column !== null && !this.hidden.has(line.name));
  }

  paintTip(x, marked) {
    if (!this.tip.firstChild) this.tip.append(make("div", "when"), make("div", "all"));
    const [when, all] = this.tip.children;
    setText(when, this.momentText(marked));
    fill(all, marked, () => this.tipEntry(), (entry, { line, place }) => {
      const [swatch, name, value] = entry.children;
      swatch.style.background = COLOURS[place];
      setText(name, line.name);
      setText(value, this.valueAt(line));
    });
    const { left, right, top } = this.plot;
    const beside = x > (left + right) / 2 ? { right: `${this.area.clientWidth - x + 12}px`, left: "" } : { left: `${x + 12}px`, right: "" };
    Object.assign(this.tip.style, { top: `${top + 4}px`, ...beside });
  }

  tipEntry() {
    const entry = make("div", "entry");
    entry.append(make("span", "swatch"), make("span", "tip-name"), make("span", "tip-value"));
    return entry;
  }

  // -- values

  stateText() {
    return this.kernel.lostText || this.picture.state;
  }

  /** X of the value that is nearest to the pointer. */
  momentText(marked) {
    const { x, columns, buckets } = this.picture;
    const distance = (column) => Math.abs(column - this.column);
    const places = marked.map(({ column }) => column).sort((a, b) => distance(a) - distance(b));
    const value = x.low + (((places[0] ?? this.column) + 0.5) / columns) * (x.high - x.low);
    if (!buckets) return axisText(x, value);
    const [origin, width] = buckets;
    const begin = origin + Math.floor((value - origin) / width) * width;
    const text = (end) => axisText({ ...x, step: x.kind === "time" ? width : x.step }, end);
    if (x.kind === "time" && width === DAY) return text(begin);
    const [from, to] = [text(begin), text(begin + width)];
    const sameDay = x.kind === "time" && width < DAY && from.slice(0, DATE) === to.slice(0, DATE);
    return `${from} to ${sameDay ? to.slice(DATE) : to}`;
  }

  /** The column nearest to the pointer in which a line has a value; null if there is none. */
  nearest({ first }) {
    return first ? nearest(first, this.column, Math.max(this.picture.columns / REACH, this.picture.bar / 2 + 1)) : null;
  }

  valueAt(line) {
    const { first, second, step, values } = line;
    const column = this.nearest(line);
    if (column === null) return "";
    if (values) return numberText(values[column], step);
    const { y } = this.picture;
    // With the resolution of the line's values, limited by that of the encoded heights.
    const resolution = Math.max(step, (y.high - y.low) / TOP);
    const value = (height) => numberText(y.low + (height / TOP) * (y.high - y.low), resolution);
    const [low, high] = [first[column], second[column]].sort((a, b) => a - b).map(value);
    return low === high ? low : `${low} to ${high}`;
  }

  point(offset) {
    const { columns, lines } = this.picture;
    this.column = null;
    if (offset !== null && lines.length && this.projection) {
      const column = Math.floor((offset - this.projection.origin) / this.projection.step);
      const inside = offset >= this.plot.left && offset <= this.plot.right;
      if (inside && column >= 0 && column < columns) this.column = column;
    }
    this.scheduleOverlay();
  }

  /** Hide or show a line; `only`: hide all other ones, or show all again. */
  toggle(name, only) {
    const names = this.picture.lines.map((line) => line.name);
    if (only) {
      const alone = names.every((other) => this.hidden.has(other) === (other !== name));
      this.hidden = new Set(alone ? [] : names.filter((other) => other !== name));
    } else if (!this.hidden.delete(name)) {
      this.hidden.add(name);
    }
    this.kernel.send({ type: "hide", names: [...this.hidden] });
    this.schedule();
  }

  // -- range of x

  /** Show a range of x, at once with the values that are there; null: all rows, or the window. */
  lookAt(range) {
    const { extent, windowed } = this.picture;
    let target = range && extent ? bounded(range, extent) : null;
    if (target && !windowed && includes(target, extent)) target = null;
    if (!target && !this.target && !this.picture.zoomed) return;
    this.target = target;
    this.column = null;
    this.kernel.send({ type: "view", range: target });
    this.schedule();
  }

  valueOf(offset) {
    const { left, right } = this.plot;
    const [low, high] = this.target ?? this.range;
    return low + ((offset - left) / (right - left)) * (high - low);
  }

  get canZoom() {
    return this.projection !== null;
  }

  onDown(event) {
    if (event.button !== 0 || !this.canZoom) return;
    this.canvas.focus({ preventScroll: true });
    const { left, right, bottom } = this.plot;
    const from = Math.min(right, Math.max(left, event.offsetX));
    const kind = event.shiftKey || event.offsetY > bottom ? "pan" : "zoom";
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { kind, from, to: from, range: this.target ?? this.range };
    this.root.classList.toggle("panning", kind === "pan");
    this.scheduleOverlay();
  }

  onMove(event) {
    const { drag } = this;
    if (!drag) return this.point(event.offsetX);
    const { left, right } = this.plot;
    drag.to = Math.min(right, Math.max(left, event.offsetX));
    if (drag.kind === "zoom") return this.scheduleOverlay();
    const pixels = event.offsetX - drag.from;
    if (Math.abs(pixels) >= CLICK || drag.moved) {
      drag.moved = true;
      this.lookAt(moved(drag.range, -pixels / (right - left)));
    }
  }

  onUp(event) {
    const { drag } = this;
    this.endDrag();
    if (drag?.kind !== "zoom" || Math.abs(drag.to - drag.from) < CLICK) return this.point(event.offsetX);
    this.lookAt([drag.from, drag.to].sort((a, b) => a - b).map((offset) => this.valueOf(offset)));
  }

  endDrag() {
    this.drag = null;
    this.root.classList.remove("panning");
    this.scheduleOverlay();
  }

  onWheel(event) {
    if (!this.canZoom) return;
    if (document.activeElement !== this.canvas && !event.ctrlKey && !event.metaKey) {
      // The page scrolls, because a chart below the pointer must not stop that.
      this.showHint();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_HEIGHT : 1;
    const across = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
    const range = this.target ?? this.range;
    if (Math.abs(across) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      const { left, right } = this.plot;
      this.lookAt(moved(range, (across * unit) / (right - left)));
    } else {
      this.lookAt(zoomed(range, this.valueOf(event.offsetX), WHEEL ** (event.deltaY * unit)));
    }
  }

  showHint() {
    setText(this.hint, HINT);
    this.hint.hidden = false;
    clearTimeout(this.hinting);
    this.hinting = setTimeout(() => {
      this.hint.hidden = true;
    }, 1500);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!this.onRangeKey(event) && !this.onColumnKey(event)) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook would handle the key too
  }

  /** Handle a key that changes the range of x; return whether it was one. */
  onRangeKey({ key }) {
    if (!this.canZoom) return false;
    const range = this.target ?? this.range;
    const about = this.column === null ? (range[0] + range[1]) / 2 : this.valueOf(this.projection.x(this.column));
    if (key === "+" || key === "=") this.lookAt(zoomed(range, about, 1 / 2));
    else if (key === "-" || key === "_") this.lookAt(zoomed(range, about, 2));
    else if (key === "PageUp") this.lookAt(moved(range, -0.8));
    else if (key === "PageDown") this.lookAt(moved(range, 0.8));
    else if (key === "Escape" && this.drag) this.endDrag();
    else if (key === "0" || (key === "Escape" && this.column === null && this.target)) this.lookAt(null);
    else return false;
    return true;
  }

  /** Handle a key that selects a value; return whether it was one. */
  onColumnKey({ key, shiftKey }) {
    const { columns, lines } = this.picture;
    const step = shiftKey ? Math.ceil(columns / 20) : 1;
    const from = this.column ?? columns;
    const to = { ArrowLeft: from - step, ArrowRight: from + step, Home: 0, End: columns - 1 }[key];
    if (key === "Escape" && this.column !== null) this.column = null;
    else if (to === undefined || !lines.length) return false;
    else this.column = Math.min(columns - 1, Math.max(0, to));
    this.scheduleOverlay();
    const marked = this.column === null ? [] : this.marked();
    const values = marked.map(({ line }) => `${line.name} ${this.valueAt(line)}`);
    setText(this.announced, this.column === null ? "" : [this.momentText(marked), ...values].join(", "));
    return true;
  }

  // -- files

  /** Draw the title, the legend and the chart, as in a file. */
  drawAll(context, width, height) {
    context.fillStyle = this.ink.ground;
    context.fillRect(0, 0, width, height);
    const { title, what, lines } = this.picture;
    const text = (words, x, y, longest) => {
      context.fillText(words, x, y, longest);
      return x + Math.min(longest, context.measureText(words).width);
    };
    Object.assign(context, { textBaseline: "top", textAlign: "start", fillStyle: this.ink.text });
    text([title, what].filter(Boolean).join(", "), 12, 10, width - 24);
    let x = this.left;
    lines.forEach((line, place) => {
      if (line.hidden || this.hidden.has(line.name)) return;
      context.fillStyle = COLOURS[place];
      context.fillRect(x, 36, 14, 4);
      context.fillStyle = this.ink.text;
      x = text(line.name, x + 20, 32, 240) + 18;
    });
    this.paintPlot(context, { left: this.left, top: 56, right: width - EDGE.right, bottom: height - EDGE.bottom });
    this.schedule(); // the projection is that of the file now
  }

  get fileSize() {
    return [this.area.clientWidth, this.area.clientHeight + 48];
  }

  saveSvg() {
    const [width, height] = this.fileSize;
    const { fontFamily } = getComputedStyle(this.canvas);
    const recorder = new SvgRecorder(width, height, this.canvas.getContext("2d"), fontFamily);
    this.drawAll(recorder, width, height);
    const blob = new Blob([recorder.text(this.label())], { type: "image/svg+xml" });
    offer(blob, fileName(this.picture.title, "svg"));
  }

  savePng() {
    const [width, height] = this.fileSize;
    const canvas = make("canvas");
    Object.assign(canvas, { width: 2 * width, height: 2 * height });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    context.font = this.canvas.getContext("2d").font;
    this.drawAll(context, width, height);
    canvas.toBlob((blob) => offer(blob, fileName(this.picture.title, "png")));
  }

  // -- theme and description

  tick() {
    this.describe();
    // A theme's style sheet may be loaded after its name is set, and a stored chart gets no messages.
    const { text, line } = this.themeInk();
    if (this.ink && (text !== this.ink.text || line !== this.ink.line)) this.schedule();
  }

  /** Theme colours as computed values, because a canvas does not support CSS variables. */
  themeInk() {
    const { color: text, borderTopColor: line, caretColor: ground } = getComputedStyle(this.canvas);
    return { text, line, ground };
  }

  label() {
    const { title, summary, notes } = this.picture;
    const state = this.stateText();
    return `Chart of ${title}: ${state && `${state}; `}${summary || notes.join(" ") || "nothing yet"}`;
  }

  /** Update the text alternative, once a second at most, for screen readers. */
  describe() {
    setAttribute(this.canvas, "aria-label", this.label());
  }
}

/** Values by column, of values of those columns that have one. */
function byColumn(first, values) {
  const found = new Float64Array(first.length);
  let place = 0;
  first.forEach((height, column) => {
    if (height !== NO_VALUE) found[column] = values[place++];
  });
  return found;
}

/** The nearest column that has a value, within a number of columns; null if there is none. */
function nearest(first, column, reach) {
  for (let distance = 0; distance <= reach; distance += 1) {
    for (const near of [column - distance, column + distance]) {
      if (near >= 0 && near < first.length && first[near] !== NO_VALUE) return near;
    }
  }
  return null;
}

export default {
  render({ model, el }) {
    const view = new PlotView(model, el);
    return () => view.dispose();
  },
};
