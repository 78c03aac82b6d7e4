import * as React from 'react';
import {
  PanelWithToolbar,
  ReactWidget,
  SidePanel,
  UseSignal
} from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { AccordionPanel } from '@lumino/widgets';

import { Actions } from './actions';
import { CallGraph } from './callGraph';
import { ConnectionHeader } from './connection';
import { History } from './history';
import { fabricIcon } from './icons';
import { UiState } from './uiState';
import { Logs } from './logs';
import { PanelModel } from './model';
import { Services } from './services';
import { Serving } from './serving';
import { Streams } from './streams';
import { PanelTables } from './tables';

type Section = (props: {
  model: PanelModel;
  uiState: UiState;
  tables: PanelTables;
  actions: Actions;
}) => React.ReactElement;

/** The panel: the connection and, for a connected notebook, the sections. */
export class FabricPanel extends SidePanel {
  constructor(private readonly actions: Actions) {
    super();
    this.id = 'fabric-nb:panel';
    this.title.icon = fabricIcon;
    this.title.caption = 'Fabric';
    this.addClass('fabric-panel');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Fabric');
    this.node.addEventListener('focusin', this._onFocus);
    this.header.addWidget(this._part(this._connection));
    for (const [label, section] of Object.entries(SECTIONS)) {
      this.addWidget(this._section(label, section));
    }
    if (this.content instanceof AccordionPanel) {
      // Collapsed first, because that gives its height to the last section.
      this.content.collapse(CALLS);
      this.content.setRelativeSizes(RELATIVE_SIZES);
      this.content.expansionToggled.connect(this._onToggle, this);
    }
    // The header changes their height when its text wraps, without a resize event for them.
    this._resized.observe(this.content.node);
    actions.current.changed.connect(this._refresh, this);
    this._refresh();
  }

  override dispose(): void {
    this._resized.disconnect();
    super.dispose();
  }

  private _section(label: string, section: Section): PanelWithToolbar {
    const panel = new PanelWithToolbar();
    panel.title.label = label;
    panel.addClass('fabric-pane');
    const element = (): React.ReactElement => {
      const companion = this.actions.current.companion;
      return companion?.model.connection ? (
        React.createElement(section, {
          key: companion.notebook.id, // recreated for each notebook, to read its UI state
          model: companion.model,
          uiState: companion.uiState,
          tables: companion.tables,
          actions: this.actions
        })
      ) : (
        <></>
      );
    };
    panel.addWidget(this._part(element));
    return panel;
  }

  private _connection = (): React.ReactElement => (
    <ConnectionHeader
      companion={this.actions.current.companion}
      actions={this.actions}
    />
  );

  private _part(element: () => React.ReactElement): ReactWidget {
    const part = ReactWidget.create(
      <UseSignal signal={this.actions.current.changed}>
        {() => (
          <UseSignal signal={this.actions.changed}>{() => element()}</UseSignal>
        )}
      </UseSignal>
    );
    this._parts.push(part);
    return part;
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    void this._restoreFocus(this._focused);
  }

  /** Focus the element that had the focus last, which may have been recreated. */
  private async _restoreFocus(selector: string | null): Promise<void> {
    for (const part of this._parts) {
      await part.renderPromise;
    }
    if (selector !== null && !this.node.contains(document.activeElement)) {
      this.node.querySelector<HTMLElement>(selector)?.focus();
    }
  }

  private _onFocus = (event: FocusEvent): void => {
    this._focused = selectorOf(event.target as Element);
  };

  private _refresh(): void {
    const model = this.actions.current.companion?.model;
    this.content.setHidden(!model?.connection);
  }

  /** Give the calls their height when they are expanded for the first time. */
  private _onToggle(content: AccordionPanel, index: number): void {
    if (index === CALLS) {
      content.expansionToggled.disconnect(this._onToggle, this);
      content.setRelativeSizes(SIZES_WITH_CALLS);
    }
  }

  private _parts: ReactWidget[] = [];
  private _focused: string | null = null;
  private _resized = new ResizeObserver(() => this.content.update());
}

/** Selector that finds an element, or the tree around it, after it was recreated; null if there is none. */
function selectorOf(element: Element): string | null {
  const named = element.closest('[role=tree]') ?? element;
  for (const attribute of ['aria-label', 'name', 'title']) {
    const value = named.getAttribute(attribute);
    if (value) {
      return `[${attribute}="${CSS.escape(value)}"]`;
    }
  }
  return null;
}

/** Initial relative heights of the sections, with the calls collapsed, and when they are expanded. */
const RELATIVE_SIZES = [11, 0, 2.3, 2.3, 6.4, 5];
const SIZES_WITH_CALLS = [7, 8, 2.3, 2.3, 4, 4];

const SECTIONS: { [label: string]: Section } = {
  Services,
  Calls: History,
  Streams,
  Serving,
  'Who calls whom': CallGraph,
  Logs
};

/** Index of the section that is collapsed at first. */
const CALLS = Object.keys(SECTIONS).indexOf('Calls');
