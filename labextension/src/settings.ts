import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { InsertStyle } from './cells';

/** What can be set; `schema/plugin.json` says what it means. */
export class Settings {
  defaultDomain = '';
  autoLoad = false;
  insertStyle: InsertStyle = 'magic';

  /** Follow the user's settings. */
  follow(settings: ISettingRegistry.ISettings): void {
    const read = () => {
      const all = settings.composite;
      this.defaultDomain =
        typeof all.defaultDomain === 'string' ? all.defaultDomain : '';
      this.autoLoad = all.autoLoad === true;
      this.insertStyle = all.insertStyle === 'python' ? 'python' : 'magic';
    };
    settings.changed.connect(read);
    read();
  }
}
