import * as React from 'react';
import {
  PanelWithToolbar,
  ReactWidget,
  SidePanel,
  UseSignal
} from '@jupyterlab/ui-components';
import { AccordionPanel } from '@lumino/widgets';

import { Actions } from './actions';
import { Head } from './head';
import { fabricIcon } from './icons';
import { Logs } from './logs';
import { PanelModel } from './model';
import { Services } from './services';
import { Serving } from './serving';
import { Streams } from './streams';

type Section = (props: {
  model: PanelModel;
  actions: Actions;
}) => React.ReactElement;

/** The panel: a head and, for a connected notebook, the sections. */
export class FabricPanel extends SidePanel {
  constructor(private readonly actions: Actions) {
    super();
    this.id = 'fabric-nb:panel';
    this.title.icon = fabricIcon;
    this.title.caption = 'Fabric';
    this.addClass('fabric-panel');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Fabric');
    this.header.addWidget(ReactWidget.create(this._watched(this._head)));
    for (const [label, section] of Object.entries(SECTIONS)) {
      this.addWidget(this._section(label, section));
    }
    if (this.content instanceof AccordionPanel) {
      this.content.setRelativeSizes(SHARES);
    }
    actions.current.changed.connect(this._refresh, this);
    this._refresh();
  }

  private _section(label: string, section: Section): PanelWithToolbar {
    const panel = new PanelWithToolbar();
    panel.title.label = label;
    panel.addClass('fabric-pane');
    const element = (): React.ReactElement => {
      const companion = this.actions.current.companion;
      return companion?.model.connection ? (
        // Another notebook: another filter, another folding.
        React.createElement(section, {
          key: companion.notebook.id,
          model: companion.model,
          actions: this.actions
        })
      ) : (
        <></>
      );
    };
    panel.addWidget(ReactWidget.create(this._watched(element)));
    return panel;
  }

  private _head = (): React.ReactElement => (
    <Head
      model={this.actions.current.companion?.model ?? null}
      actions={this.actions}
    />
  );

  private _watched(element: () => React.ReactElement): React.ReactElement {
    return (
      <UseSignal signal={this.actions.current.changed}>
        {() => (
          <UseSignal signal={this.actions.changed}>{() => element()}</UseSignal>
        )}
      </UseSignal>
    );
  }

  private _refresh(): void {
    const model = this.actions.current.companion?.model;
    this.content.setHidden(!model?.connection);
  }
}

/** What the sections get of the height at first, in their order. */
const SHARES = [6, 2, 2, 3];

const SECTIONS: { [label: string]: Section } = {
  Services,
  Streams,
  Serving,
  Logs
};
