// Marks of a chart: lines, areas, bars, points and axes, painted on a canvas or recorded as SVG.

export const NO_VALUE = 65535; // as in picture.py
export const TOP = 65534;
export const COLOURS = ["#2f7fd6", "#d2691e", "#1f9d70", "#b5489b", "#7a64d0", "#c8434a"]; // as in static.py
const BAR_FILL = 0.9; // as in static.py
const FEW = 40; // values of a line up to which each has a dot
const LINE_WIDTH = 1.4;
const STEEP = 5; // mean pixels of height in each column from which a line is painted as columns

/** Positions in pixels of a picture's columns and heights, in a rectangle that shows a range of x. */
export class Projection {
  constructor(picture, plot, [low, high]) {
    this.columns = picture.columns;
    this.plot = plot;
    const { x, columns } = picture;
    const scale = (plot.right - plot.left) / (high - low);
    this.step = ((x.high - x.low) / columns) * scale; // pixels of a column
    this.origin = plot.left + (x.low - low) * scale;
    this.height = (plot.bottom - plot.top) / TOP;
    // Halved, because the difference of two floats may overflow.
    const zero = -picture.y.low / 2 / (picture.y.high / 2 - picture.y.low / 2);
    this.zero = plot.bottom - Math.min(1, Math.max(0, zero)) * (plot.bottom - plot.top);
  }

  x(column) {
    return this.origin + (column + 0.5) * this.step;
  }

  y(height) {
    return this.plot.bottom - height * this.height;
  }

  /** First and last column that are visible, and one more. */
  visible(columns) {
    const column = (x) => (x - this.origin) / this.step;
    const first = Math.max(0, Math.floor(column(this.plot.left)) - 1);
    return [first, Math.min(columns, Math.ceil(column(this.plot.right)) + 1)];
  }
}

/** Paint the marks of all lines; hidden ones have no marks. */
export function paintMarks(context, picture, projection) {
  const { left, top, right, bottom } = projection.plot;
  context.save();
  context.beginPath();
  context.rect(left, top - 2, right - left, bottom - top + 3);
  context.clip();
  const places = picture.lines.map((_, place) => place);
  // Of a stack, the line on top is painted first, behind those that are part of its height.
  for (const place of picture.stacked ? places.reverse() : places) {
    if (picture.lines[place].first) paintLine(context, picture, place, projection);
  }
  context.restore();
}

function paintLine(context, picture, place, projection) {
  const line = picture.lines[place];
  context.strokeStyle = COLOURS[place];
  context.fillStyle = COLOURS[place];
  if (picture.kind === "bar") return paintBars(context, picture, place, projection);
  if (line.points) return paintPoints(context, line.points, projection);
  context.lineWidth = LINE_WIDTH;
  context.lineJoin = "round";
  if (picture.kind === "area") {
    context.globalAlpha = picture.stacked ? 1 : 0.3;
    const ends = traceLine(context, line, projection);
    if (ends) {
      context.lineTo(ends.last, projection.zero);
      context.lineTo(ends.first, projection.zero);
      context.closePath();
      context.fill();
    }
    context.globalAlpha = 1;
  }
  if (!context.vector && isSteep(line, projection)) return paintColumns(context, line, projection);
  const ends = traceLine(context, line, projection);
  context.stroke();
  if (ends && ends.count <= FEW) paintDots(context, line, projection);
}

/** Trace a line; return the x of its ends and the number of its columns. */
function traceLine(context, { first, second }, projection) {
  const [begin, end] = projection.visible(first.length);
  let ends = null;
  context.beginPath();
  for (let column = begin; column < end; column += 1) {
    if (first[column] === NO_VALUE) continue;
    // The two points of a column are offset, because a gentle slope would look like steps.
    const offset = second[column] === first[column] ? 0 : 0.25;
    const x = projection.x(column - offset);
    if (ends) context.lineTo(x, projection.y(first[column]));
    else context.moveTo(x, projection.y(first[column]));
    if (offset) context.lineTo(projection.x(column + offset), projection.y(second[column]));
    ends ??= { first: x, last: x, count: 0 };
    ends.last = projection.x(column + offset);
    ends.count += 1;
  }
  return ends;
}

/** Whether a line goes up and down in most columns of pixels, as that of many rows does. */
function isSteep({ first, second }, projection) {
  if (projection.step > 2) return false;
  let climb = 0;
  let before = NO_VALUE;
  for (let column = 0; column < first.length; column += 1) {
    if (first[column] === NO_VALUE) continue;
    climb += Math.abs(second[column] - first[column]);
    if (before !== NO_VALUE) climb += Math.abs(first[column] - before);
    before = second[column];
  }
  return climb * projection.height > STEEP * first.length;
}

/** Paint a steep line as a rectangle in each column, which takes a twentieth of the time of a stroke. */
function paintColumns(context, { first, second }, projection) {
  const [begin, end] = projection.visible(first.length);
  const width = Math.max(1, projection.step);
  let before = NO_VALUE;
  for (let column = begin; column < end; column += 1) {
    if (first[column] === NO_VALUE) continue;
    let low = Math.min(first[column], second[column]);
    let high = Math.max(first[column], second[column]);
    if (before !== NO_VALUE) { // as far as the end of the column before, so that there is no gap
      low = Math.min(low, before);
      high = Math.max(high, before);
    }
    before = second[column];
    const top = projection.y(high);
    context.fillRect(projection.x(column) - width / 2, top - LINE_WIDTH / 2, width, projection.y(low) - top + LINE_WIDTH);
  }
}

function paintDots(context, { first }, projection) {
  first.forEach((height, column) => {
    if (height === NO_VALUE) return;
    context.beginPath();
    context.arc(projection.x(column), projection.y(height), 3, 0, 2 * Math.PI);
    context.fill();
  });
}

/** Paint bars; those of several lines stand side by side or in a stack. */
function paintBars(context, picture, place, projection) {
  const { first, second } = picture.lines[place];
  const shown = picture.lines.map((_, index) => index).filter((index) => picture.lines[index].first);
  const [count, rank] = picture.stacked ? [1, 0] : [shown.length, shown.indexOf(place)];
  const width = Math.max(1, picture.bar * projection.step * BAR_FILL) / count;
  const reach = Math.ceil(picture.bar);
  const [begin, end] = projection.visible(first.length);
  for (let column = Math.max(0, begin - reach); column < Math.min(first.length, end + reach); column += 1) {
    if (first[column] === NO_VALUE) continue;
    const heights = [first[column], second[column]].map((height) => projection.y(height));
    const [far] = heights.sort((a, b) => Math.abs(b - projection.zero) - Math.abs(a - projection.zero));
    const left = projection.x(column) + (rank - count / 2) * width;
    context.fillRect(left, Math.min(far, projection.zero), width, Math.abs(far - projection.zero));
  }
}

function paintPoints(context, points, projection) {
  const { left, right } = projection.plot;
  const width = (projection.step * projection.columns) / TOP;
  const size = points.length > 2000 ? 2.5 : 4;
  context.globalAlpha = 0.8;
  for (let index = 0; index < points.length; index += 2) {
    const x = projection.origin + points[index] * width;
    if (x < left - 2 || x > right + 2) continue;
    context.fillRect(x - size / 2, projection.y(points[index + 1]) - size / 2, size, size);
  }
  context.globalAlpha = 1;
}

/** Paint the axes; while a range is being chosen, the ticks of x are those of the picture before. */
export function paintAxes(context, picture, plot, [low, high], ink) {
  const { left, top, right, bottom } = plot;
  const { x, y } = picture;
  context.lineWidth = 1;
  context.strokeStyle = ink.line;
  context.fillStyle = ink.text;
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
    const value = x.low + position * (x.high - x.low);
    const tick = Math.round(left + ((value - low) / (high - low)) * (right - left)) + 0.5;
    if (tick < left || tick > right + 1) continue;
    context.moveTo(tick, bottom);
    context.lineTo(tick, bottom + 5);
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(tick, right + 12 - half), bottom + 8);
  }
  context.stroke();
  context.fillText(x.label, (left + right) / 2, bottom + 23, right - left);
}
