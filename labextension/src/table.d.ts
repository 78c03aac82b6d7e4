/** The table of the live views, which is JavaScript: fabric_nb/notebook/table. */

declare module '*/notebook/table/rows.js' {
  type Cell = null | number | string | [text: string, tone: string];

  interface IRow {
    readonly id: number;
    readonly cells: readonly Cell[];
  }

  export class Rows {
    readonly columns: readonly { readonly label: string }[];
    /** Apply a difference that the kernel sent; false if one before it was lost. */
    apply(message: object): boolean;
  }
}

declare module '*/notebook/table/table.js' {
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
    readonly actions: {
      onAnswer(answer: { request: number; error: boolean; text: string }): void;
    };
    attach(element: HTMLElement): void;
    updated(): void;
    dispose(): void;
  }

  type Message =
    | { type: 'action'; request: number; name: string; value: string | null }
    | { type: 'cancel'; request: number }
    | { type: 'open'; row: number };
}
