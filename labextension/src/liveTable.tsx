import * as React from 'react';

import { PanelTable, RowTools } from './tables';

/** A table of the kernel. */
export function LiveTable(props: {
  table: PanelTable;
  tools?: RowTools;
}): React.ReactElement {
  const container = React.useRef<HTMLDivElement>(null);
  const view = props.table.view(props.tools);
  React.useLayoutEffect(() => {
    if (container.current) {
      view.attach(container.current);
    }
    return () => view.root.remove();
  }, [view]);
  return <div ref={container} className="fabric-live" />;
}
