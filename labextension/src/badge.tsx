import * as React from 'react';

import { paintBadge } from '../../fabric_nb/notebook/table/cells.js';
import { BadgeContent } from './protocol';

/** A coloured label, as in the tables under cells. */
export function Badge(props: {
  content: BadgeContent;
  title?: string;
}): React.ReactElement {
  const { content, title } = props;
  return <span title={title} ref={node => node && paintBadge(node, content)} />;
}
