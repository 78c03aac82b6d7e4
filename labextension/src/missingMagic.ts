/** Detection of magics of fabric_nb that were used before it was loaded. Pure. */

// Anchored at the end: if fabric_nb is loaded and has the other kind of magic, a hint follows.
const MISSING =
  /^UsageError: (?:Line magic function|Cell magic) `(%%?fabric(?:_\w{1,20})?)` not found\.$/m;
const NAME_SHOWN = 30;

/**
 * Magic of fabric_nb that was not found when a cell ran, with its percent signs; null if none.
 *
 * IPython reports it on standard error, not as an error output.
 *
 * @param outputs - outputs of the cell, in the notebook format.
 */
export function missingMagic(outputs: unknown): string | null {
  for (const output of Array.isArray(outputs) ? (outputs as unknown[]) : []) {
    const { output_type, name, text } = output as { [field: string]: unknown };
    if (output_type === 'stream' && name === 'stderr') {
      const whole = Array.isArray(text) ? text.join('') : String(text);
      const found = MISSING.exec(whole)?.[1];
      if (found !== undefined) {
        return found;
      }
    }
  }
  return null;
}

/** Message about a cell that used `magic` without fabric_nb. */
export function loadAdvice(magic: string, notebook: string): string {
  const name =
    notebook.length > NAME_SHOWN
      ? `${notebook.slice(0, NAME_SHOWN)}…`
      : notebook;
  return `${magic} needs fabric_nb, which is not loaded in ${name}; load it and run the cell again.`;
}
