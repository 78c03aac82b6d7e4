// The live chart: paints the picture that the kernel sends, and shows the values at the pointer.

import { make, setAttribute, setText } from "../live/dom.js";
import { KernelConnection, textIn } from "../live/kernel.js";

const NO_VALUE = 65535; // as in picture.py
const TOP = 65534;
const COLOURS = ["#2f7fd6", "#d2691e", "#1f9d70", "#b5489b", "#7a64d0", "#c8434a"]; // as in static.py
const EDGE = { top: 8, right: 12, bottom: 38 };

function heights(encoded) {
  const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
  return new Uint16Array(bytes.buffer);
}

/** Format a number with the digits that a resolution of `step` needs. */
function numberText(value, step) {
  if (Math.abs(value) >= 1e12 || step < 1e-9) return value.toPrecision(6);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function timeText(seconds, step) {
  const text = new Date(seconds * 1000).toISOString(); // 2026-11-25T12:30:05.123Z
  const day = text.slice(0, 10);
  if (step >= 86400) return day;
  return `${day} ${text.slice(11, step >= 60 ? 16 : step >= 1 ? 19 : 23)}`;
}

function axisText(axis, value) {
  return (axis.kind === "time" ? timeText : numberText)(value, axis.step);
}

class PlotView {
  constructor(model, el) {
    this.picture = { title: "", columns: 1, lines: [], x: {}, y: {}, notes: [], state: "", summary: "" };
    this.column = null; // at the pointer, or selected by keys
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
    this.state = make("span", "state badge", { role: "status" });
    this.legend = make("span", "legend");
    this.moment = make("span", "moment");
    this.head.append(this.title, this.state, this.legend, this.moment);
    this.area = make("div", "area");
    this.canvas = make("canvas", "", { tabindex: "0", role: "img" });
    this.area.append(this.canvas);
    this.notes = make("div", "notes", { role: "status" });
    this.announced = make("div", "unseen", { role: "status" });
    this.root.append(this.head, this.notes, this.area, this.announced);
    el.append(this.root);
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  dispose() {
    this.kernel.dispose();
    clearInterval(this.timer);
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
      line.first = heights(line.first);
      line.second = heights(line.second);
    }
    this.picture = picture;
    this.schedule();
  }

  hello() {
    this.columns = 0;
    this.resize();
  }

  resize() {
    const columns = Math.round(this.area.clientWidth - this.left - EDGE.right);
    this.schedule();
    if (columns < 10 || columns === this.columns) return;
    const type = this.columns ? "resize" : "hello";
    this.columns = columns;
    const { hides } = this.kernel;
    this.kernel.send(type === "hello" ? { type, columns, hides } : { type, columns });
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
    if (this.picture.lines.length) {
      this.paintFrame(context);
      this.picture.lines.forEach((line, index) => this.paintLine(context, line, COLOURS[index]));
      this.paintPointer(context);
    }
    this.paintHead();
  }

  /** Adapt the left margin to the longest label. It only grows, to avoid flicker. */
  measure(context) {
    const widths = (this.picture.y.ticks ?? []).map(([, text]) => context.measureText(text).width);
    const left = Math.min(160, Math.ceil(Math.max(0, ...widths)) + 14);
    if (left <= this.left) return;
    this.left = left;
    this.resize();
  }

  paintFrame(context) {
    const { left, top, right, bottom } = this.plot;
    const { x, y } = this.picture;
    context.lineWidth = 1;
    context.strokeStyle = this.ink.line;
    context.fillStyle = this.ink.text;
    context.textBaseline = "middle";
    context.textAlign = "end";
    context.beginPath();
    for (const [position, text] of y.ticks) {
      const height = Math.round(bottom - position * (bottom - top)) + 0.5;
      context.moveTo(left, height);
      context.lineTo(right, height);
      context.fillText(text, left - 8, height);
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const [position, text] of x.ticks) {
      const tick = Math.round(left + position * (right - left)) + 0.5;
      context.moveTo(tick, bottom);
      context.lineTo(tick, bottom + 5);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(tick, right + EDGE.right - half), bottom + 8);
    }
    context.stroke();
    context.fillText(x.label, (left + right) / 2, bottom + 23, right - left);
  }

  xOf(column) {
    const { left, right } = this.plot;
    return left + ((column + 0.5) / this.picture.columns) * (right - left);
  }

  yOf(height) {
    const { top, bottom } = this.plot;
    return bottom - (height / TOP) * (bottom - top);
  }

  paintLine(context, { first, second }, colour) {
    context.beginPath();
    let points = 0;
    for (let column = 0; column < first.length; column += 1) {
      if (first[column] === NO_VALUE) continue;
      // The two points of a column are offset, because a gentle slope would look like steps.
      const offset = second[column] === first[column] ? 0 : 0.25;
      const move = points ? "lineTo" : "moveTo";
      context[move](this.xOf(column - offset), this.yOf(first[column]));
      if (offset) context.lineTo(this.xOf(column + offset), this.yOf(second[column]));
      points += 1;
    }
    context.strokeStyle = colour;
    context.lineWidth = 1.4;
    context.lineJoin = "round";
    context.stroke();
    if (points > 40) return;
    context.fillStyle = colour;
    for (let column = 0; column < first.length; column += 1) {
      if (first[column] !== NO_VALUE) this.dot(context, column, first[column]);
    }
  }

  dot(context, column, height) {
    context.beginPath();
    context.arc(this.xOf(column), this.yOf(height), 3, 0, 2 * Math.PI);
    context.fill();
  }

  paintPointer(context) {
    if (this.column === null) return;
    const { top, bottom } = this.plot;
    const x = Math.round(this.xOf(this.column)) + 0.5;
    context.beginPath();
    context.moveTo(x, top);
    context.lineTo(x, bottom);
    context.strokeStyle = this.ink.text;
    context.lineWidth = 1;
    context.stroke();
    this.picture.lines.forEach((line, index) => {
      const column = nearest(line.first, this.column);
      context.fillStyle = COLOURS[index];
      if (column !== null) this.dot(context, column, line.second[column]);
    });
  }

  paintHead() {
    const { title, lines, notes } = this.picture;
    setText(this.title, title);
    setText(this.state, this.stateText());
    setText(this.notes, notes.join("\n"));
    while (this.legend.children.length > lines.length) this.legend.lastChild.remove();
    while (this.legend.children.length < lines.length) {
      const series = make("span", "series");
      const swatch = make("span", "swatch");
      swatch.style.background = COLOURS[this.legend.children.length];
      series.append(swatch, make("span", "name"), make("span", "value"));
      this.legend.append(series);
    }
    lines.forEach((line, index) => {
      const [, name, value] = this.legend.children[index].children;
      setText(name, line.name);
      if (name.title !== line.name) name.title = line.name;
      setText(value, this.column === null ? line.last : this.valueAt(line));
    });
    setText(this.moment, this.column === null ? "" : this.momentText());
  }

  // -- values

  stateText() {
    return this.kernel.lostText || this.picture.state;
  }

  momentText() {
    const { x, columns } = this.picture;
    return axisText(x, x.low + ((this.column + 0.5) / columns) * (x.high - x.low));
  }

  valueAt({ first, second, step }) {
    const column = nearest(first, this.column);
    if (column === null) return "";
    const { y } = this.picture;
    // With the resolution of the line's values, limited by that of the encoded heights.
    const resolution = Math.max(step, (y.high - y.low) / TOP);
    const value = (height) => numberText(y.low + (height / TOP) * (y.high - y.low), resolution);
    const [low, high] = [first[column], second[column]].sort((a, b) => a - b).map(value);
    return low === high ? low : `${low} to ${high}`;
  }

  point(offset) {
    const { columns, lines } = this.picture;
    if (offset === null || !lines.length || !this.plot) this.column = null;
    else {
      const { left, right } = this.plot;
      const column = Math.floor(((offset - left) / (right - left)) * columns);
      this.column = column < 0 || column >= columns ? null : column;
    }
    this.schedule();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { columns, lines } = this.picture;
    const step = event.shiftKey ? Math.ceil(columns / 20) : 1;
    const from = this.column ?? columns;
    const to = { ArrowLeft: from - step, ArrowRight: from + step, Home: 0, End: columns - 1 }[event.key];
    if (event.key === "Escape" && this.column !== null) this.column = null;
    else if (to === undefined || !lines.length) return;
    else this.column = Math.min(columns - 1, Math.max(0, to));
    event.preventDefault();
    event.stopPropagation(); // the notebook would handle the key too
    this.schedule();
    const values = lines.map((line) => `${line.name} ${this.valueAt(line)}`);
    setText(this.announced, this.column === null ? "" : [this.momentText(), ...values].join(", "));
  }

  tick() {
    this.describe();
    // A theme's style sheet may be loaded after its name is set, and a stored chart gets no messages.
    const { text, line } = this.themeInk();
    if (this.ink && (text !== this.ink.text || line !== this.ink.line)) this.schedule();
  }

  /** Theme colours as computed values, because a canvas does not support CSS variables. */
  themeInk() {
    const { color: text, borderTopColor: line } = getComputedStyle(this.canvas);
    return { text, line };
  }

  /** Update the text alternative, once a second at most, for screen readers. */
  describe() {
    const { title, summary, notes } = this.picture;
    const state = this.stateText();
    const text = `Chart of ${title}: ${state && `${state}; `}${summary || notes.join(" ") || "nothing yet"}`;
    setAttribute(this.canvas, "aria-label", text);
  }
}

/** The nearest column that has a value, within 20 columns; null if there is none. */
function nearest(first, column) {
  for (let distance = 0; distance < 20; distance += 1) {
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
