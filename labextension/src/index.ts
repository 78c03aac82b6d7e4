/** The plugin of JupyterLab: panel, commands, menus and status item. */

import {
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';

import { Actions } from './actions';
import { Current } from './current';
import { fabricIcon } from './icons';
import { LoadOffer } from './loading';
import { FabricPanel } from './panel';
import { Settings } from './settings';
import { statusItem } from './status';
import { insertTableCells } from './tableCells';

const PLUGIN = 'fabric-nb:plugin';
const CATEGORY = 'Fabric';
const ROW = '.fabric-tree .fabric-row';

namespace CommandIDs {
  export const show = 'fabric-nb:show';
  export const connect = 'fabric-nb:connect';
  export const insert = 'fabric-nb:insert-call';
  export const form = 'fabric-nb:open-form';
  export const copy = 'fabric-nb:copy-address';
  export const demo = 'fabric-nb:start-demo';
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: 'The fabric of the current notebook: services, streams, logs.',
  autoStart: true,
  requires: [INotebookTracker],
  // Notebook 7 has no status bar, and other front ends may lack more.
  optional: [ISettingRegistry, ICommandPalette, ILayoutRestorer, IStatusBar],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    registry: ISettingRegistry | null,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    statusBar: IStatusBar | null
  ) => {
    const settings = new Settings();
    const current = new Current(tracker, settings);
    const actions = new Actions(current, settings);
    const panel = new FabricPanel(actions);
    new LoadOffer(actions, notebook => app.shell.activateById(notebook.id));
    app.shell.add(panel, 'left', { rank: 450, type: 'Fabric' });
    restorer?.add(panel, panel.id);
    registry?.load(PLUGIN).then(
      found => settings.follow(found),
      (error: unknown) => console.error(`${PLUGIN}: no settings`, error)
    );
    addCommands(app, actions, panel);
    insertTableCells(tracker);
    if (palette) {
      const { show, connect, demo } = CommandIDs;
      for (const command of [show, connect, demo]) {
        palette.addItem({ command, category: CATEGORY });
      }
    }
    statusBar?.registerStatusItem(PLUGIN, {
      item: statusItem(current, () => app.shell.activateById(panel.id)),
      align: 'left',
      rank: 100
    });
  }
};

function addCommands(
  app: JupyterFrontEnd,
  actions: Actions,
  panel: FabricPanel
): void {
  const { commands, contextMenu } = app;
  const model = () => actions.current.companion?.model;
  commands.addCommand(CommandIDs.show, {
    label: 'Show the Fabric Panel',
    icon: fabricIcon,
    execute: () => app.shell.activateById(panel.id)
  });
  commands.addCommand(CommandIDs.connect, {
    label: 'Connect This Notebook to the Fabric',
    isEnabled: () =>
      ['unloaded', 'linked'].includes(model()?.phase ?? '') &&
      !model()?.connection,
    execute: () => actions.connect()
  });
  commands.addCommand(CommandIDs.demo, {
    label: 'Start Demo Services',
    isEnabled: () => model()?.connection?.embedded === true,
    execute: () => actions.startDemo()
  });
  commands.addCommand(CommandIDs.insert, {
    label: 'Insert the Call',
    isEnabled: () =>
      actions.row?.kind === 'method' || actions.row?.kind === 'service',
    execute: () => actions.insertRow(actions.row)
  });
  commands.addCommand(CommandIDs.form, {
    label: 'Open the Form',
    isVisible: () => actions.row?.kind === 'method',
    execute: () => {
      if (actions.row?.kind === 'method') {
        actions.form = actions.row;
      }
    }
  });
  commands.addCommand(CommandIDs.copy, {
    label: 'Copy the Address',
    isEnabled: () => actions.row !== null && actions.row.kind !== 'type',
    execute: () => actions.copyAddress(actions.row)
  });
  [CommandIDs.insert, CommandIDs.form, CommandIDs.copy].forEach(
    (command, rank) => {
      contextMenu.addItem({ command, selector: ROW, rank });
    }
  );
}

export default plugin;
