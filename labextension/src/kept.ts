import * as React from 'react';

import { INumberedLine } from './model';
import { IMethod, IService } from './protocol';
import { Row } from './tree';

/** A method that the form is open for. */
export interface IFormTarget {
  service: IService;
  method: IMethod;
}

/**
 * What one has set up in the panel for a notebook.
 *
 * It outlives the elements that show it: JupyterLab takes the panel out of the page to put it on
 * the other side, and another notebook may be shown meanwhile.
 */
export class Kept {
  filter = '';
  /** By row key, whether it was opened (true) or closed (false). */
  folded: ReadonlyMap<string, boolean> = new Map();
  /** The active row of the services. */
  row: Row | null = null;
  /** What the form calls; null when it is closed. */
  form: IFormTarget | null = null;
  /** Pixels that the services are scrolled by. */
  top = 0;
  logLevel = 'INFO';
  logFilter = '';
  logFollow = true;
  /** The lines that are shown while the log is paused. */
  logPausedAt?: readonly INumberedLine[];
  logActive: INumberedLine | null = null;
}

/** As `React.useState`, of what is kept. */
export function useKept<K extends keyof Kept>(
  kept: Kept,
  key: K
): [Kept[K], (value: Kept[K]) => void] {
  const [value, setValue] = React.useState(kept[key]);
  const set = (value: Kept[K]): void => {
    kept[key] = value;
    setValue(value);
  };
  return [value, set];
}
