// Calculations of virtualised lists, shared by tables and the panel's tree.

/** Indices of the rows to render: first to last, and a pinned one outside; -1 pins none. */
export function renderedIndices(first, last, pinned) {
  const indices = [];
  for (let index = first; index <= last; index += 1) indices.push(index);
  if (pinned > last) indices.push(pinned);
  else if (pinned >= 0 && pinned < first) indices.unshift(pinned);
  return indices;
}

/**
 * Scroll position nearest to the current one at which a row is visible.
 *
 * @param top distance of the row from the first one, in pixels
 * @param height height of the row
 * @param scrollTop current scroll position
 * @param visible height of the visible area
 */
export function scrollToShow(top, height, scrollTop, visible) {
  return Math.min(top, Math.max(scrollTop, top + height - visible));
}

/** Index of the row that a navigation key selects; undefined for other keys. */
export function indexAfterKey(key, index, count, page) {
  const steps = {
    ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
  };
  if (!Object.hasOwn(steps, key)) return undefined;
  return Math.max(0, Math.min(count - 1, index + steps[key]));
}
