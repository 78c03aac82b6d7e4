import { IMethod, IService } from './protocol';
import { Row } from './tree';

/** Method of an open form. */
export interface IFormTarget {
  service: IService;
  method: IMethod;
}

/**
 * UI state of the panel for one notebook: filter, expanded rows, form.
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
}
