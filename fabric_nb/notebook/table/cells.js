// Cells as text, and badges.

import { SVG, make, setAttribute, setText } from "../live/dom.js";

const ZERO = 48; // character code of the height 0 of a sparkline
const MAX_HEIGHT = 63;

const YEAR_10000 = 253402128000; // seconds
const two = (number) => String(number).padStart(2, "0");
export const grouped = (number) => number.toLocaleString("en-US");
const formats = new Map(); // decimals -> Intl.NumberFormat, cached because it is slow to create

/** Value of a cell, without the tone of a badge, the line of a sparkline or the rest of a bar: null, a number or a text. */
export function valueOf(cell) {
  return Array.isArray(cell) ? cell[0] : cell;
}

/** Text of a cell, the same as fabric_nb.notebook.table.cells.shown returns. */
export function textOf(cell, { kind, digits }, now) {
  const value = valueOf(cell);
  if (value === null) return "";
  if (typeof value !== "number") return value;
  if (kind === "age") return ago(now - value);
  if (kind === "time") return clock(value, now);
  if (kind === "bar") return `from ${value / 10} % to ${cell[2] / 10} %`;
  if (kind === "spark") return `up to ${numberOf(value, digits)}`;
  return numberOf(value, digits);
}

function numberOf(value, digits) {
  const size = Math.abs(value);
  if (size >= 1e16 || (digits === null && size > 0 && size < 1e-4)) return value.toExponential(5);
  return format(digits).format(value);
}

function format(digits) {
  if (!formats.has(digits)) {
    const options = { minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? 10 };
    formats.set(digits, new Intl.NumberFormat("en-US", options));
  }
  return formats.get(digits);
}

/** Approximate length of a cell's text, because formatting it for every change would be slow. */
export function lengthOf(cell, { kind, digits }) {
  const value = valueOf(cell);
  if (kind === "age") return 11; // the longest text
  if (kind === "spark") return 13; // the width of the line
  if (kind === "bar") return 36;
  if (kind === "time") return value * 1000 >= new Date().setHours(0, 0, 0, 0) ? 8 : 19;
  if (kind === "badge") return Math.ceil((value?.length ?? 0) * 1.1) + 3; // bold, and rounded at its ends
  if (typeof value !== "number") {
    const length = value?.length ?? 0;
    return kind === "text" ? length + Math.min(2, Math.ceil(length / 8)) : length; // capitals are wide
  }
  const whole = String(Math.trunc(value)).length;
  const fraction = digits === null ? String(value).length - whole : digits + 1;
  return Math.min(whole + Math.floor(whole / 3) + fraction, 24);
}

function ago(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 120) return `${Math.floor(seconds)} s ago`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${grouped(Math.floor(seconds / 86400))} d ago`;
}

function clock(moment, now) {
  if (moment < 0 || moment >= YEAR_10000) return moment.toExponential(5);
  const then = new Date(moment * 1000);
  const time = [then.getHours(), then.getMinutes(), then.getSeconds()].map(two).join(":");
  const day = (date) => [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return day(then) === day(new Date(now * 1000)) ? time : `${day(then)} ${time}`;
}

/** Paint a sparkline, for which `text` is read aloud: [highest value, heights], or null. */
export function paintSpark(node, cell, text) {
  const heights = Array.isArray(cell) ? cell[1] : "";
  if (node.dataset.heights === heights && node.lastChild?.textContent === text) return;
  node.dataset.heights = heights;
  if (!node.firstChild) {
    node.append(document.createElementNS(SVG, "svg"), make("span", "unseen"));
    node.firstChild.append(document.createElementNS(SVG, "path"));
    setAttribute(node.firstChild, "preserveAspectRatio", "none");
    setAttribute(node.firstChild, "aria-hidden", "true");
  }
  const [svg, label] = node.children;
  setText(label, text);
  setAttribute(svg, "viewBox", `0 0 ${Math.max(1, heights.length - 1)} ${MAX_HEIGHT}`);
  const steps = [...heights].map((char, x) => {
    if (char === " ") return "";
    const start = x === 0 || heights[x - 1] === " ";
    return `${start ? "M" : "L"}${x} ${MAX_HEIGHT + ZERO - char.charCodeAt(0)}${start ? "h0" : ""}`; // h0: a dot
  });
  setAttribute(svg.firstChild, "d", steps.join(""));
}

/** Paint a bar, for which `text` is read aloud: [start, begin, end, tone], in thousandths. */
export function paintBar(node, cell, text) {
  const [start, begin, end, tone] = Array.isArray(cell) ? cell : [0, 0, 0, ""];
  if (node.dataset.bar === String(cell)) return;
  node.dataset.bar = String(cell);
  if (!node.firstChild) node.append(make("i"), make("i"), make("span", "unseen"));
  const [waited, ran, label] = node.children;
  for (const [part, from, to] of [[waited, start, begin], [ran, begin, end]]) {
    part.style.insetInlineStart = `${from / 10}%`;
    part.style.width = `${(to - from) / 10}%`;
  }
  ran.className = tone === "bad" ? "failed" : "ran";
  setText(label, text);
}

export function paintBadge(node, [text, tone]) {
  setText(node, text);
  if (node.dataset.tone !== tone) {
    node.className = "badge";
    node.dataset.tone = tone;
  }
}
