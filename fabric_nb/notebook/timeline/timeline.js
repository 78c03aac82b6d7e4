// The live timeline: paints the lanes that the kernel sends, names the mark at the pointer, and selects a
// range of time.

import { make, setAttribute, setText, shortened } from "../live/dom.js";
import { KernelConnection, textIn } from "../live/kernel.js";

const TONES = ["quiet", "good", "busy", "warn", "bad"]; // as in picture.py
const MEANINGS = [
  "traced, left, debug", "served, came, back", "made, rows, info", "timeout, busy, warning", "failed, gone, error",
];
const ROW = 22;
const FULL = 16; // heights of a mark of many events and of one
const LOW = 6;
const AXIS = 26;
const TOP = 4;
const COUNTS = 56; // width of the counts at the right
const REACH = 5; // pixels within which the pointer is at a mark
const CLICK = 4; // pixels below which a drag is a click
const SHORT = 10; // seconds below which a range is written with fractions
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

function clockText(seconds, withSeconds = true) {
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const text = `${two(time.getHours())}:${two(time.getMinutes())}`;
  return withSeconds ? `${text}:${two(time.getSeconds())}` : text;
}

/** Round local times in a range, at least `distance` seconds apart. */
function timeTicks({ start, end }, distance) {
  const step = STEPS.find((one) => one >= distance) ?? 86400 * Math.ceil(distance / 86400);
  const offset = -60 * new Date(start * 1000).getTimezoneOffset();
  const ticks = [];
  for (let time = Math.ceil((start + offset) / step) * step - offset; time <= end; time += step) {
    const day = new Date(time * 1000).toLocaleDateString([], { month: "short", day: "numeric" });
    ticks.push([time, step >= 86400 ? day : clockText(time, step < 60)]);
  }
  return ticks;
}

/** Height of a mark from 0 to 1, as in drawing.py. */
function heightOf(mark, lane) {
  if (lane.group === "streams") return mark.number / lane.peak;
  if (lane.peak === 1) return 1;
  return (LOW + ((FULL - LOW) * Math.log(mark.number)) / Math.log(lane.peak)) / FULL;
}

class TimelineView {
  constructor(model, el) {
    this.picture = { title: "", facts: [], notes: [], empty: "", start: 0, end: 1, columns: 1, lanes: [] };
    this.columns = 0; // last width sent to the kernel
    this.lane = 0; // of the mark that keys have reached
    this.mark = null; // at the pointer, or reached by keys
    this.pointer = null; // x
    this.drag = null; // {from, to}: x
    this.selection = null; // [from, to]: epoch seconds
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
    this.root = make("section", "fabric-plot fabric-timeline");
    this.head = make("div", "head");
    this.title = make("span", "title");
    this.state = make("span", "state badge", { role: "status" });
    this.facts = make("span", "facts");
    this.range = make("span", "range");
    this.clear = make("button", "clear", { type: "button" });
    this.clear.textContent = "Show all";
    this.head.append(this.title, this.state, this.facts, this.range, this.clear);
    this.legend = make("div", "legend");
    TONES.forEach((tone, index) => {
      const series = make("span", "series");
      const meaning = make("span", "meaning");
      meaning.textContent = MEANINGS[index];
      series.append(make("span", "swatch", { "data-tone": tone }), meaning);
      this.legend.append(series);
    });
    this.swatches = [...this.legend.querySelectorAll(".swatch")];
    this.area = make("div", "area");
    this.base = make("canvas", "base", { "aria-hidden": "true" });
    this.canvas = make("canvas", "", { tabindex: "0", role: "img" });
    this.tip = make("div", "tip");
    this.area.append(this.base, this.canvas, this.tip);
    this.notes = make("div", "notes", { role: "status" });
    this.announced = make("div", "unseen", { role: "status" });
    this.root.append(this.head, this.area, this.legend, this.notes, this.announced);
    el.append(this.root);
    this.clear.addEventListener("click", () => this.select(null));
    this.canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    this.canvas.addEventListener("pointermove", (event) => this.onMove(event));
    this.canvas.addEventListener("pointerup", (event) => this.onUp(event));
    this.canvas.addEventListener("pointercancel", () => this.endDrag());
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
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
    if (this.drag) {
      this.next = picture; // the range that is being selected must not move
      return;
    }
    for (const lane of picture.lanes) {
      lane.marks = lane.marks.map(([first, last, tone, number, label]) => ({ first, last, tone, number, label }));
      lane.peak = Math.max(0, ...lane.marks.map((mark) => mark.number));
    }
    this.picture = picture;
    this.selection = picture.selection;
    if (this.mark) this.pointAt(this.mark.place);
    this.area.style.height = `${TOP + ROW * Math.max(1, picture.lanes.length) + AXIS}px`;
    this.schedule();
  }

  hello() {
    this.columns = 0;
    this.resize();
  }

  resize() {
    const columns = Math.round(this.area.clientWidth - this.left - COUNTS);
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

  select(range) {
    this.selection = range;
    this.schedule();
    this.kernel.send({ type: "select", range });
    setText(this.announced, range ? this.rangeText() : "all");
  }

  // -- painting

  /** Width of the names of lanes. */
  get left() {
    return Math.min(200, Math.round(this.area.clientWidth * 0.28));
  }

  schedule() {
    this.stale = true;
    this.overlay();
  }

  /** Schedule the pointer and the selection only. */
  overlay() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = null;
    const { clientWidth: width, clientHeight: height } = this.area;
    if (!this.root.isConnected || width < 100) return; // the observer will schedule it again
    this.plot = { left: this.left, right: width - COUNTS, bottom: height - AXIS };
    if (this.stale) {
      this.stale = false;
      this.ink = this.themeInk();
      this.paintLanes(this.contextOf(this.base, width, height));
      this.paintHead();
    }
    this.paintOverlay(this.contextOf(this.canvas, width, height));
  }

  contextOf(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    const pixels = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
    return context;
  }

  xOf(time) {
    const { left, right } = this.plot;
    return left + ((time - this.picture.start) / (this.picture.end - this.picture.start)) * (right - left);
  }

  timeOf(x) {
    const { left, right } = this.plot;
    const inside = Math.min(right, Math.max(left, x));
    return this.picture.start + ((inside - left) / (right - left)) * (this.picture.end - this.picture.start);
  }

  /** Left end and width of a mark, in pixels. */
  span(mark) {
    const { left, right } = this.plot;
    const scale = (right - left) / this.picture.columns;
    return [left + mark.first * scale, Math.max(2, (mark.last - mark.first) * scale)];
  }

  paintLanes(context) {
    const { left, right, bottom } = this.plot;
    const { lanes, start, end } = this.picture;
    context.lineWidth = 1;
    context.strokeStyle = this.ink.line;
    context.fillStyle = this.ink.text;
    context.beginPath();
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const [time, text] of timeTicks({ start, end }, ((end - start) * 90) / (right - left))) {
      const x = Math.round(this.xOf(time)) + 0.5;
      context.moveTo(x, TOP);
      context.lineTo(x, bottom + 4);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.max(left + half, Math.min(x, right + COUNTS - half)), bottom + 8);
    }
    lanes.forEach((lane, row) => {
      const base = TOP + ROW * (row + 1) - 0.5;
      const divided = lanes[row + 1]?.group !== lane.group;
      context.moveTo(divided ? 0 : left, base);
      context.lineTo(divided ? right + COUNTS : right, base);
    });
    context.stroke();
    context.textBaseline = "middle";
    lanes.forEach((lane, row) => this.paintLane(context, lane, TOP + ROW * row));
  }

  paintLane(context, lane, top) {
    const { left, right } = this.plot;
    const middle = top + ROW / 2 + 1;
    context.fillStyle = this.ink.text;
    context.textAlign = "start";
    context.fillText(shortened(context, lane.name, left - 16), 4, middle);
    context.textAlign = "end";
    context.fillText(lane.count.toLocaleString("en-US"), right + COUNTS - 4, middle);
    let tone = -1;
    for (const mark of lane.marks) {
      if (mark.tone !== tone) context.fillStyle = this.ink.tones[(tone = mark.tone)];
      const height = Math.max(1, heightOf(mark, lane) * FULL);
      const [x, width] = this.span(mark);
      context.fillRect(x, top + ROW - 1 - height, width, height);
    }
  }

  paintOverlay(context) {
    const { left, right, bottom } = this.plot;
    const range = this.drag ? [this.drag.from, this.drag.to].sort((a, b) => a - b) : this.selection?.map((time) => this.xOf(time));
    if (range) {
      const [from, to] = range.map((x) => Math.min(right, Math.max(left, x)));
      context.fillStyle = this.ink.accent;
      context.globalAlpha = 0.16;
      context.fillRect(from, TOP, Math.max(1, to - from), bottom - TOP);
      context.globalAlpha = 1;
      for (const x of [from, to]) context.fillRect(Math.round(x), TOP, 1, bottom - TOP);
    }
    const at = this.mark ? this.span(this.mark.mark)[0] : this.pointer;
    if (at !== null && at >= left && at <= right) {
      context.fillStyle = this.ink.text;
      context.fillRect(Math.round(at), TOP, 1, bottom - TOP);
    }
    if (this.mark) {
      const [x, width] = this.span(this.mark.mark);
      context.strokeStyle = this.ink.strong;
      context.lineWidth = 1.5;
      context.strokeRect(x - 1.5, TOP + ROW * this.mark.row + 3, width + 3, ROW - 4);
    }
    this.paintTip(at);
  }

  paintTip(at) {
    const text = at === null ? "" : this.tipText(at);
    setText(this.tip, text);
    this.tip.hidden = !text;
    if (!text) return;
    const row = this.mark?.row ?? this.picture.lanes.length - 1;
    const room = this.area.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(at + 10, room))}px`;
    this.tip.style.top = `${TOP + ROW * (row + 1) + 3}px`;
  }

  tipText(at) {
    if (!this.mark) return clockText(this.timeOf(at));
    const { mark, lane } = this.mark;
    const { start, end, columns } = this.picture;
    const time = clockText(start + ((mark.first + 0.5) / columns) * (end - start));
    const count = `${mark.number.toLocaleString("en-US")} ${lane.group === "streams" ? "rows" : "events"}`;
    const more = mark.number > 1 && lane.group !== "streams" && mark.label ? ` (and ${mark.number - 1} more)` : "";
    return `${time}  ${lane.name}\n${mark.label || count}${more}`;
  }

  paintHead() {
    const { title, facts, notes, empty, lanes } = this.picture;
    setText(this.title, title);
    setText(this.state, this.kernel.lostText || this.picture.state);
    setText(this.facts, facts.join(" · "));
    setText(this.range, this.selection ? this.rangeText() : "");
    this.clear.hidden = !this.selection;
    this.area.hidden = this.legend.hidden = !lanes.length;
    setText(this.notes, [...(lanes.length ? [] : [empty]), ...notes].join("\n"));
  }

  rangeText() {
    const [from, to] = this.selection;
    const fraction = (time) => (to - from < SHORT ? (time % 1).toFixed(2).slice(1) : "");
    return `${clockText(from)}${fraction(from)} to ${clockText(to)}${fraction(to)}, paused`;
  }

  // -- pointer and keys

  onDown(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const { left, right } = this.plot;
    const x = Math.min(right, Math.max(left, event.offsetX));
    this.drag = { from: x, to: x };
    this.overlay();
  }

  onMove(event) {
    this.pointer = event.offsetX;
    if (this.drag) {
      const { left, right } = this.plot;
      this.drag.to = Math.min(right, Math.max(left, event.offsetX));
      this.mark = null;
    } else {
      this.pointAt(this.markAt(event.offsetX, event.offsetY));
    }
    this.overlay();
  }

  onUp(event) {
    if (!this.drag) return;
    const { from, to } = this.drag;
    const place = this.markAt(event.offsetX, event.offsetY);
    const range = [from, to].sort((a, b) => a - b).map((x) => this.timeOf(x));
    this.drag = null;
    if (Math.abs(to - from) >= CLICK) this.select(range);
    else if (place) this.selectMark(place);
    else if (this.selection) this.select(null);
    this.endDrag();
  }

  endDrag() {
    this.drag = null;
    const { next } = this;
    this.next = null;
    if (next && !this.selection) this.setPicture(next);
    this.overlay();
  }

  leave() {
    this.pointer = null;
    this.mark = null;
    this.overlay();
  }

  /** Lane and index of the mark at a point; the most important of several. */
  markAt(x, y) {
    const row = Math.floor((y - TOP) / ROW);
    const marks = this.picture.lanes[row]?.marks ?? [];
    let found = null;
    let nearest = REACH;
    marks.forEach((mark, index) => {
      const [begin, width] = this.span(mark);
      const distance = Math.max(0, begin - x, x - begin - width);
      if (distance > REACH || distance > nearest) return;
      nearest = distance;
      found = { row, index };
    });
    return found;
  }

  pointAt(place) {
    const lane = place && this.picture.lanes[place.row];
    const mark = lane?.marks[place.index];
    this.mark = mark ? { place, row: place.row, lane, mark } : null;
  }

  /** Select the time of a mark, and a little more, because its events have exact times. */
  selectMark({ row, index }) {
    const mark = this.picture.lanes[row].marks[index];
    const { start, end, columns } = this.picture;
    const [from, to] = [mark.first - 0.5, mark.last + 1.5].map((column) => start + (column / columns) * (end - start));
    this.select([from, to]);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.picture.lanes.length) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const rows = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === "Escape" && this.selection) this.select(null);
    else if (event.key === "Enter" && this.mark) this.selectMark(this.mark.place);
    else if (step && event.shiftKey) this.extend(step);
    else if (step || rows) this.move(step ?? 0, rows ?? 0);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook would handle the key too
    this.overlay();
  }

  /** Move to the next mark of a lane in time, or to the nearest one of another lane. */
  move(step, rows) {
    const { lanes } = this.picture;
    const last = this.mark?.mark.first ?? this.picture.columns;
    if (this.mark) this.lane = this.mark.row;
    this.lane = Math.min(lanes.length - 1, Math.max(0, this.lane + rows));
    const { marks } = lanes[this.lane];
    const order = marks.map((mark, index) => ({ first: mark.first, index })).sort((a, b) => a.first - b.first);
    let target;
    if (step < 0) target = order.findLast(({ first }) => first < last);
    else if (step > 0) target = order.find(({ first }) => first > last);
    else target = order.findLast(({ first }) => first <= last) ?? order[0];
    if (target) this.pointAt({ row: this.lane, index: target.index });
    if (this.mark) setText(this.announced, this.tipText(0));
  }

  extend(step) {
    const { start, end } = this.picture;
    const size = (end - start) / 20;
    const at = this.mark ? this.timeOf(this.span(this.mark.mark)[0]) : end;
    const [from, to] = this.selection ?? [at, at];
    this.select(step < 0 ? [Math.max(start, from - size), to] : [from, Math.min(end, to + size)]);
  }

  // -- theme and description

  tick() {
    this.describe();
    // A theme's style sheet may be loaded after its name is set.
    if (this.ink && JSON.stringify(this.themeInk()) !== JSON.stringify(this.ink)) this.schedule();
  }

  /** Theme colours as computed values, because a canvas does not support CSS variables. */
  themeInk() {
    const { color: text, borderTopColor: line, caretColor: accent, outlineColor: strong } = getComputedStyle(this.base);
    return { text, line, accent, strong, tones: this.swatches.map((swatch) => getComputedStyle(swatch).backgroundColor) };
  }

  /** Update the text alternative, once a second at most, for screen readers. */
  describe() {
    const { title, facts, lanes, empty } = this.picture;
    const named = lanes.map((lane) => `${lane.name} ${lane.count}`);
    setAttribute(this.canvas, "aria-label", [title, ...facts, ...named, ...(lanes.length ? [] : [empty])].join(", "));
  }
}

export default {
  render({ model, el }) {
    const view = new TimelineView(model, el);
    return () => view.dispose();
  },
};
