// Ranges of the horizontal axis: zoom and pan. Pure.

const NARROWEST = 1e-9; // of all rows
const PRECISION = 1e-13; // of the numbers of the axis

/** A range that is scaled by a factor about a fixed value. */
export function zoomed([low, high], about, factor) {
  return [about - (about - low) * factor, about + (high - about) * factor];
}

/** A range that is moved by a fraction of its width. */
export function moved([low, high], fraction) {
  const shift = (high - low) * fraction;
  return [low + shift, high + shift];
}

/** The nearest range inside of the extent of all rows; the width is kept if possible. */
export function bounded([low, high], [first, last]) {
  const size = Math.max(Math.abs(first), Math.abs(last));
  const narrowest = Math.max((last - first) * NARROWEST, size * PRECISION, Number.MIN_VALUE);
  const width = Math.min(Math.max(high - low, narrowest), Math.max(last - first, narrowest));
  const middle = (low + high) / 2;
  const begin = Math.min(Math.max(middle - width / 2, first), Math.max(first, last - width));
  return [begin, begin + width];
}

/** Whether a range includes all rows. */
export function includes([low, high], [first, last]) {
  const tolerance = (last - first) * 1e-6;
  return low <= first + tolerance && high >= last - tolerance;
}
