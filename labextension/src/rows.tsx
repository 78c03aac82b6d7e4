import * as React from 'react';

/** Rows above and below those in sight that are there as well. */
const BEYOND = 10;
/** Rows by which one scrolls before others are put there. */
const STEP = BEYOND / 2;

export interface IVirtualRowsProps<T extends { key: string }> {
  rows: readonly T[];
  /** What it is to a screen reader: `tree` or `listbox`. */
  role: 'tree' | 'listbox';
  label: string;
  /** Pixels; all rows have one height, so that only those in sight need to be there. */
  rowHeight: number;
  active: string | null;
  onActive: (row: T) => void;
  /** The inside of a row. */
  render: (row: T) => React.ReactNode;
  /** What a row tells a screen reader, beside its role. */
  aria?: (row: T) => React.AriaAttributes;
  /** A click or Enter on a row. */
  onOpen?: (row: T) => void;
  /** A key that is not for moving; returns whether it was taken. */
  onKey?: (row: T, key: string) => boolean;
  /** Pixels that they are scrolled by at first. */
  top?: number;
  /** They are scrolled by so many pixels. */
  onTop?: (top: number) => void;
  className?: string;
}

/**
 * Rows, of which only those in sight are in the document.
 *
 * The focus stays on the whole, which names the active row; so it is never lost, however the rows
 * change under it.
 */
export function VirtualRows<T extends { key: string }>(
  props: IVirtualRowsProps<T>
): React.ReactElement {
  const { rows, active, onActive, rowHeight } = props;
  const scroller = React.useRef<HTMLDivElement>(null);
  const [top, setTop] = React.useState(props.top ?? 0);
  const [height, setHeight] = React.useState(400);
  const initial = React.useRef(top);
  const prefix = React.useId();

  React.useEffect(() => {
    const node = scroller.current;
    if (!node) {
      return;
    }
    const observer = new ResizeObserver(() => setHeight(node.clientHeight));
    observer.observe(node);
    node.scrollTop = initial.current;
    return () => observer.disconnect();
  }, []);

  const at = rows.findIndex(row => row.key === active);
  const first = Math.max(0, Math.floor(top / rowHeight) - BEYOND);
  const last = Math.ceil((top + height) / rowHeight) + BEYOND;
  const inSight = rows.slice(first, last).map((row, index) => ({
    row,
    index: first + index
  }));
  const activeRow = rows[at];
  if (activeRow && (at < first || at >= last)) {
    inSight.push({ row: activeRow, index: at }); // it is what the focus is on
  }

  const move = (index: number): void => {
    const to = Math.max(0, Math.min(rows.length - 1, index));
    const node = scroller.current;
    const row = rows[to];
    if (!row || !node) {
      return;
    }
    onActive(row);
    const y = to * rowHeight;
    if (y < node.scrollTop) {
      node.scrollTop = y;
    } else if (y + rowHeight > node.scrollTop + node.clientHeight) {
      node.scrollTop = y + rowHeight - node.clientHeight;
    }
  };

  // JupyterLab opens its menu for what the event is on; a key's is on the whole, not on the row.
  const openMenu = (): boolean => {
    move(at);
    const node =
      activeRow && document.getElementById(`${prefix}${activeRow.key}`);
    const place = node?.getBoundingClientRect();
    const event = new MouseEvent('contextmenu', {
      bubbles: true,
      cancelable: true,
      clientX: place && place.left + rowHeight,
      clientY: place?.bottom
    });
    const opened = node?.dispatchEvent(event) === false;
    const menu = document.querySelector('.lm-Menu');
    if (opened && menu) {
      // It takes the focus, and leaves it nowhere when it closes.
      new MutationObserver((_, observer) => {
        if (!menu.isConnected) {
          observer.disconnect();
          if (document.activeElement === document.body) {
            scroller.current?.focus();
          }
        }
      }).observe(document.body, { childList: true });
    }
    return opened;
  };

  const onKeyDown = (event: React.KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const page = Math.max(1, Math.floor(height / rowHeight) - 1);
    const steps: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at < 0 ? 0 : at - 1,
      Home: 0,
      End: rows.length - 1,
      PageDown: at + page,
      PageUp: at - page
    };
    const step = steps[event.key];
    if (step !== undefined) {
      move(step);
    } else if (activeRow && event.key === 'Enter') {
      props.onOpen?.(activeRow);
    } else if (isMenuKey(event)) {
      if (!openMenu()) {
        return;
      }
    } else if (!activeRow || !props.onKey?.(activeRow, event.key)) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const itemRole = props.role === 'tree' ? 'treeitem' : 'option';
  return (
    <div
      ref={scroller}
      className={`fabric-rows ${props.className ?? ''}`}
      role={props.role}
      aria-label={props.label}
      aria-activedescendant={
        activeRow ? `${prefix}${activeRow.key}` : undefined
      }
      tabIndex={0}
      onKeyDown={onKeyDown}
      onScroll={({ currentTarget: { scrollTop } }) => {
        setTop(scrollTop - (scrollTop % (STEP * rowHeight)));
        props.onTop?.(scrollTop);
      }}
    >
      <div
        role="presentation"
        style={{ height: rows.length * rowHeight, position: 'relative' }}
      >
        {inSight.map(({ row, index }) => (
          <div
            key={row.key}
            id={`${prefix}${row.key}`}
            role={itemRole}
            aria-selected={row.key === active}
            {...props.aria?.(row)}
            data-key={row.key}
            className={`fabric-row ${row.key === active ? 'fabric-mod-active' : ''}`}
            style={{ top: index * rowHeight, height: rowHeight }}
            onMouseDown={() => onActive(row)}
            onClick={() => props.onOpen?.(row)}
          >
            {props.render(row)}
          </div>
        ))}
      </div>
    </div>
  );
}

function isMenuKey(event: React.KeyboardEvent): boolean {
  return event.key === 'ContextMenu' || (event.shiftKey && event.key === 'F10');
}
