import * as React from 'react';

import { IMethod, IService } from './protocol';
import { Row } from './tree';

/** A method that the form is open for. */
export interface IFormTarget {
  service: IService;
  method: IMethod;
}

/**
 * The user's choices in the panel for one notebook: filters, open rows, the form, scroll positions.
 *
 * They outlive the elements that show them, because JupyterLab removes the panel from the page to
 * move it to the other side, and another notebook may be current meanwhile.
 */
export class UiState {
  filter = '';
  /** By row key, whether it was opened (true) or closed (false). */
  folded: ReadonlyMap<string, boolean> = new Map();
  /** The active row of the services. */
  row: Row | null = null;
  /** What the form calls; null when it is closed. */
  form: IFormTarget | null = null;
  /** Pixels that the services are scrolled by. */
  top = 0;
}

/** `React.useState` for one field of `UiState`. */
export function useUiState<K extends keyof UiState>(
  uiState: UiState,
  key: K
): [UiState[K], (value: UiState[K]) => void] {
  const [value, setValue] = React.useState(uiState[key]);
  const set = (value: UiState[K]): void => {
    uiState[key] = value;
    setValue(value);
  };
  return [value, set];
}
