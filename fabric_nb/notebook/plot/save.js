// A chart as a file: SVG recorded from the same drawing operations as the canvas, or PNG.

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escaped = (text) => text.replace(/[&<>"]/g, (char) => escapes[char]);
const short = (number) => String(Math.round(number * 100) / 100);
const ANCHORS = { start: "start", end: "end", center: "middle" };
const BASELINES = { middle: "0.35em", top: "0.8em", alphabetic: "0" };

/** Records the operations of a canvas that charts use, as elements of SVG. */
export class SvgRecorder {
  constructor(width, height, measuring, fontFamily) {
    Object.assign(this, { width, height, measuring, fontFamily });
    Object.assign(this, { globalAlpha: 1, lineWidth: 1, strokeStyle: "#000", fillStyle: "#000" });
    Object.assign(this, { textAlign: "start", textBaseline: "alphabetic", weight: 400 });
    this.vector = true; // so that lines are recorded as paths
    this.path = [];
    this.parts = [];
    this.clips = 0;
    this.saved = [];
  }

  beginPath() {
    this.path = [];
  }

  moveTo(x, y) {
    this.path.push(`M${short(x)} ${short(y)}`);
  }

  lineTo(x, y) {
    this.path.push(`L${short(x)} ${short(y)}`);
  }

  closePath() {
    this.path.push("z");
  }

  rect(x, y, width, height) {
    this.path.push(`M${short(x)} ${short(y)}h${short(width)}v${short(height)}h${short(-width)}z`);
  }

  arc(x, y, radius) {
    const [r, d] = [short(radius), short(2 * radius)];
    this.path.push(`M${short(x - radius)} ${short(y)}a${r} ${r} 0 1 0 ${d} 0a${r} ${r} 0 1 0 -${d} 0z`);
  }

  get opacity() {
    return this.globalAlpha < 1 ? ` opacity="${short(this.globalAlpha)}"` : "";
  }

  stroke() {
    const style = `stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}" stroke-linejoin="round"`;
    this.parts.push(`<path fill="none" ${style}${this.opacity} d="${this.path.join("")}"/>`);
  }

  fill() {
    this.parts.push(`<path fill="${this.fillStyle}"${this.opacity} d="${this.path.join("")}"/>`);
  }

  fillRect(x, y, width, height) {
    const size = `width="${short(width)}" height="${short(height)}"`;
    this.parts.push(`<rect x="${short(x)}" y="${short(y)}" ${size} fill="${this.fillStyle}"${this.opacity}/>`);
  }

  fillText(text, x, y, longest = Infinity) {
    const wide = this.measureText(text).width > longest ? ` textLength="${short(longest)}" lengthAdjust="spacingAndGlyphs"` : "";
    const place = `x="${short(x)}" y="${short(y)}" dy="${BASELINES[this.textBaseline]}"`;
    const look = `fill="${this.fillStyle}" text-anchor="${ANCHORS[this.textAlign]}" font-weight="${this.weight}"`;
    this.parts.push(`<text ${place} ${look}${wide}>${escaped(text)}</text>`);
  }

  measureText(text) {
    return this.measuring.measureText(text);
  }

  clip() {
    this.clips += 1;
    this.parts.push(`<clipPath id="c${this.clips}"><path d="${this.path.join("")}"/></clipPath><g clip-path="url(#c${this.clips})">`);
  }

  save() {
    this.saved.push(this.clips);
  }

  restore() {
    if (this.clips > this.saved.pop()) this.parts.push("</g>");
  }

  /** The document; `label` is its text alternative. */
  text(label) {
    const { width, height } = this;
    const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
    const font = `font-family="${escaped(this.fontFamily)}" font-size="12"`;
    const about = `role="img" aria-label="${escaped(label)}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${font} ${about}>${this.parts.join("")}</svg>\n`;
  }
}

/** Name of a file for a title. */
export function fileName(title, suffix) {
  const words = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${words.slice(0, 60) || "chart"}.${suffix}`;
}

/** Offer a file to the user. */
export function offer(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
