import * as React from 'react';

/** A view without React, which is kept when the element that contains it is recreated. */
export function Mount(props: {
  view: { readonly root: HTMLElement; attach(element: HTMLElement): void };
  className: string;
}): React.ReactElement {
  const { view, className } = props;
  const container = React.useRef<HTMLDivElement>(null);
  React.useLayoutEffect(() => {
    if (container.current) {
      view.attach(container.current);
    }
    return () => view.root.remove();
  }, [view]);
  return <div ref={container} className={className} />;
}
