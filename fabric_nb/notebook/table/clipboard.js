// Copying to the clipboard.

import { make } from "../live/dom.js";

/** Copy a text to the clipboard; false if that is not possible. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // the clipboard API needs https
  }
}

function copyBySelection(text) {
  const area = make("textarea", "unseen");
  area.value = text;
  const { activeElement } = document;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  activeElement?.focus();
  return done;
}
