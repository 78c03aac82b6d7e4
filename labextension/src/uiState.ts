import * as React from 'react';

import { IMethod, IService } from './protocol';
import { Row } from './tree';

/** Method of an open form. */
export interface IFormTarget {
  service: IService;
  method: IMethod;
}

/**
 * UI state of the panel for one notebook: filter, expanded rows, form, scroll position.
 *
 * It is kept when the panel's elements are recreated, for instance when JupyterLab moves the panel
 * to the other side, or another notebook is current.
 */
export class UiState {
  filter = '';
  /** Whether a row is expanded, by row key. */
  expansion: ReadonlyMap<string, boolean> = new Map();
  /** Active row of the services. */
  row: Row | null = null;
  /** Method of the form; null if the form is closed. */
  form: IFormTarget | null = null;
  /** Scroll position of the services in pixels. */
  scrollTop = 0;
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
