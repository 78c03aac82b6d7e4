/** Types of the live table, which is JavaScript: fabric_nb/notebook/table. */

declare module '*/notebook/table/rows.js' {
  type Cell = null | number | string | [text: string, tone: string];

  interface IRow {
    readonly id: number;
    readonly cells: readonly Cell[];
  }

  export class Rows {
    readonly columns: readonly { readonly label: string }[];
    /** Apply a message of the kernel; false if an earlier message was lost. */
    apply(message: object): boolean;
  }
}

declare module '*/notebook/table/table.js' {
  import type { Actions, Message } from '*/notebook/table/actions.js';
  import type { IRow, Rows } from '*/notebook/table/rows.js';

  interface IRowTool {
    label: string;
    icon: () => Element;
    run: () => void;
  }

  export class TableView {
    constructor(
      rows: Rows,
      send: (message: Message) => void,
      tools?: ((row: IRow) => IRowTool[]) | null
    );
    readonly root: HTMLElement;
    readonly actions: Actions;
    /** Called with the full name of a service that is chosen in the call graph. */
    onPick: ((name: string) => void) | null;
    attach(element: HTMLElement): void;
    updated(): void;
    dispose(): void;
  }
}

declare module '*/notebook/table/actions.js' {
  type Value = null | string | Record<string, string>;
  type Message =
    | { type: 'action'; request: number; name: string; value: Value }
    | { type: 'cancel'; request: number }
    | { type: 'open'; row: number };

  export class Actions {
    constructor(send: (message: Message) => void);
    onBegun(begun: { request: number }): void;
    onProgress(progress: { request: number; text: string }): void;
    onAnswer(answer: {
      request: number;
      error: boolean;
      text: string;
      field: string;
    }): void;
  }
}

declare module '*/notebook/table/form.js' {
  import type { Actions } from '*/notebook/table/actions.js';

  type Field = [
    name: string,
    hint: string,
    required: boolean,
    value?: string,
    kind?: string,
    choices?: string[]
  ];

  /** Name of the field for further values by name. */
  export const MORE: string;

  export class FormView {
    constructor(
      form: { name: string; fields: Field[]; submit: string },
      actions: Actions,
      tools: { label: string; run: () => void }[]
    );
    readonly node: HTMLFormElement;
    readonly answer: HTMLElement;
    readonly values: [name: string, text: string][];
    readonly expressions: [name: string, expression: string][];
    showAnswer: (
      text: string,
      error: boolean,
      final?: boolean,
      field?: string
    ) => void;
  }
}

declare module '*/notebook/table/cells.js' {
  export function paintBadge(
    node: HTMLElement,
    badge: readonly [text: string, tone: string]
  ): void;
}

declare module '*/notebook/table/scroller.js' {
  /** Nodes of a row. */
  interface INodes {
    readonly row: HTMLElement;
    readonly below?: HTMLElement;
  }

  interface IRowsView {
    /** Calls `update` of the scroller. */
    paint(): void;
    makeGap(): HTMLElement;
    makeRow(id: string): INodes;
    /** Returns whether `below` is shown. */
    paintRow(nodes: INodes, index: number): boolean;
    onCurrent(id: string): void;
  }

  export class RowScroller {
    constructor(node: HTMLElement, body: HTMLElement, view: IRowsView);
    /** Id of the row with the keyboard focus. */
    readonly current: string | null;
    attach(root: HTMLElement, parent: HTMLElement): void;
    /** Call the view's `paint` now, if it is in the document. */
    paint(): void;
    update(ids: readonly string[], options: { rowHeight: number }): void;
    idOf(node: Node): string | undefined;
    onKey(key: string): boolean;
    focus(): void;
    focusRow(id: string): void;
  }
}

declare module '*/notebook/live/dom.js' {
  /** Set a text; parts between backquotes are shown as code. */
  export function setQuoted(node: HTMLElement, text: string): void;
  export function make(
    tag: string,
    className?: string,
    attributes?: Record<string, string>
  ): HTMLElement;
}

declare module '*/notebook/connect/form.js' {
  interface ICell {
    line: string;
    uri: string;
    domain: string;
  }

  export class ConnectForm {
    constructor(
      ask: (name: string, values: Record<string, string>) => Promise<object>,
      insert: (cell: ICell) => Promise<string>
    );
    readonly node: HTMLFormElement;
    showRecent(): Promise<void>;
  }
}
