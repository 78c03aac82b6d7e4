import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { InsertStyle } from './cells';

/** User settings; see `schema/plugin.json`. */
export class Settings {
  defaultDomain = '';
  autoLoad = false;
  insertStyle: InsertStyle = 'magic';

  /** Read the settings, now and after each change. */
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
