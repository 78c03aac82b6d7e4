import * as React from 'react';

import {
  OVERSCAN,
  VirtualList
} from '../../fabric_nb/notebook/table/virtual.js';

/** Rows to scroll by before other rows are rendered. */
const STEP = OVERSCAN / 2;

export interface IVirtualRowsProps<T extends { key: string }> {
  rows: readonly T[];
  /** ARIA role. */
  role: 'tree' | 'listbox';
  label: string;
  /** Height of every row in pixels. */
  rowHeight: number;
  active: string | null;
  onActive: (row: T) => void;
  /** Content of a row. */
  render: (row: T) => React.ReactNode;
  /** ARIA attributes of a row, besides its role. */
  aria?: (row: T) => React.AriaAttributes;
  /** Called for a click or Enter on a row. */
  onOpen?: (row: T) => void;
  /** Called for other keys than navigation keys; returns whether the key was handled. */
  onKey?: (row: T, key: string) => boolean;
  /** Initial scroll position in pixels. */
  top?: number;
  /** Called with the scroll position in pixels. */
  onTop?: (top: number) => void;
  className?: string;
}

/**
 * Virtualised rows: only visible ones are in the document.
 *
 * The container has the focus and names the active row, so that changes of the rows never remove
 * the focus.
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

  const activeIndex = rows.findIndex(row => row.key === active);
  const activeRow = rows[activeIndex]; // pinned, as aria-activedescendant names it
  const list = new VirtualList(rows.length, rowHeight);
  const rendered = list.indices(top, height, activeIndex).flatMap(index => {
    const row = rows[index];
    return row ? [{ row, index }] : [];
  });

  const move = (index: number): void => {
    const node = scroller.current;
    const row = rows[index];
    if (!row || !node) {
      return;
    }
    onActive(row);
    node.scrollTop = list.positionShowing(
      index,
      node.scrollTop,
      node.clientHeight
    );
  };

  // JupyterLab opens the menu of the event's target, which for a key is the container.
  const openMenu = (): boolean => {
    move(Math.max(0, activeIndex));
    const node =
      activeRow && document.getElementById(`${prefix}${activeRow.key}`);
    const box = node?.getBoundingClientRect();
    const event = new MouseEvent('contextmenu', {
      bubbles: true,
      cancelable: true,
      clientX: box && box.left + rowHeight,
      clientY: box?.bottom
    });
    const opened = node?.dispatchEvent(event) === false;
    const menu = document.querySelector('.lm-Menu');
    if (opened && menu) {
      // The menu takes the focus and does not restore it.
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
    const index = list.indexAfterKey(event.key, activeIndex, height);
    if (index !== undefined) {
      move(index);
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
        style={{ height: list.height, position: 'relative' }}
      >
        {rendered.map(({ row, index }) => (
          <div
            key={row.key}
            id={`${prefix}${row.key}`}
            role={itemRole}
            aria-selected={row.key === active}
            {...props.aria?.(row)}
            data-key={row.key}
            className={`fabric-row ${row.key === active ? 'fabric-mod-active' : ''}`}
            style={{ top: list.topOf(index), height: rowHeight }}
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
