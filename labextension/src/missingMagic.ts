/** Magics of fabric_nb that a cell used before it was loaded. Pure. */

// Where the other kind of magic has the name, fabric_nb is loaded, and IPython goes on to say so.
const MISSING =
  /^UsageError: (?:Line magic function|Cell magic) `(%%?fabric(?:_\w{1,20})?)` not found\.$/m;
const NAME_SHOWN = 30;

/**
 * The magic of fabric_nb that a cell has used in vain, as it is written; null when it has not.
 *
 * IPython does not give it as an error output, but writes it to the standard error.
 *
 * @param outputs - the cell's, as a notebook's file has them.
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

/** Advice for a cell that used `magic` without fabric_nb. */
export function loadAdvice(magic: string, notebook: string): string {
  const name =
    notebook.length > NAME_SHOWN
      ? `${notebook.slice(0, NAME_SHOWN)}…`
      : notebook;
  return `${magic} needs fabric_nb, which is not loaded in ${name}; load it and run the cell again.`;
}
