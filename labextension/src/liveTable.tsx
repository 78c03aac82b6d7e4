import * as React from 'react';

import { PanelTable, RowTools } from './tables';

/** A table of the kernel's in the page. */
export function LiveTable(props: {
  table: PanelTable;
  tools?: RowTools;
}): React.ReactElement {
  const place = React.useRef<HTMLDivElement>(null);
  const view = props.table.view(props.tools);
  React.useLayoutEffect(() => {
    if (place.current) {
      view.attach(place.current);
    }
    return () => view.root.remove();
  }, [view]);
  return <div ref={place} className="fabric-live" />;
}
