import * as React from 'react';

import { BadgeContent } from './protocol';

/** A coloured label, as in the tables under cells. */
export function Badge(props: {
  content: BadgeContent;
  title?: string;
}): React.ReactElement {
  const [text, tone] = props.content;
  return (
    <span className="badge" data-tone={tone} title={props.title}>
      {text}
    </span>
  );
}
