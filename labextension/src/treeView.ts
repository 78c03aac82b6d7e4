/** The services as a tree, in the scroller of tables. */

import {
  addIcon,
  caretDownIcon,
  caretRightIcon
} from '@jupyterlab/ui-components';

import { make } from '../../fabric_nb/notebook/live/dom.js';
import { paintBadge } from '../../fabric_nb/notebook/table/cells.js';
import {
  INodes,
  RowScroller
} from '../../fabric_nb/notebook/table/scroller.js';
import { Actions } from './actions';
import { formIcon } from './icons';
import { BadgeContent } from './protocol';
import { Row } from './tree';

/** Height of a row in pixels; base.css has the same. */
const ROW_HEIGHT = 24;

/** The tree. It is kept, with its focus and scroll position, when the panel's elements are recreated. */
export class TreeView {
  constructor(private readonly actions: Actions) {
    this.root = make('div', 'fabric-tree', {
      role: 'tree',
      'aria-label': 'Services',
      tabindex: '-1'
    });
    const body = make('div', '', { role: 'presentation' });
    this.root.append(body);
    this._scroller = new RowScroller(this.root, body, this);
    this.root.addEventListener('focus', () => this._scroller.focus());
    this.root.addEventListener('keydown', event => this._onKey(event));
    body.addEventListener('click', event => this._onClick(event));
    actions.revealed.connect((_, key) => {
      this._revealed = key;
      this._reveal();
    });
  }

  readonly root: HTMLElement;

  /** Put the tree into an element, with its last scroll position. */
  attach(element: HTMLElement): void {
    this._scroller.attach(this.root, element);
  }

  /** Show the rows that match a filter; another filter than before scrolls to the first row. */
  show(rows: readonly Row[], filter: string): void {
    this._rows = rows;
    this._keys = rows.map(row => row.key);
    if (filter !== this._filter) {
      this._filter = filter;
      this.root.scrollTop = 0;
    }
    this._scroller.paint();
    this._reveal();
  }

  /** Focus the row that is to be revealed, once it is shown. */
  private _reveal(): void {
    if (this._revealed && this._keys.includes(this._revealed)) {
      const key = this._revealed;
      this._revealed = null;
      this._scroller.focusRow(key);
    }
  }

  paint(): void {
    this._scroller.update(this._keys, { rowHeight: ROW_HEIGHT });
  }

  makeGap(): HTMLElement {
    return make('div', '', { role: 'presentation' });
  }

  makeRow(): INodes {
    return { row: make('div', 'fabric-row', { role: 'treeitem' }) };
  }

  paintRow({ row: node }: INodes, index: number): boolean {
    const row = this._rows[index];
    if (!row) {
      return false;
    }
    const { level, position, siblings, expanded } = row;
    const selected = row.key === this._scroller.current;
    node.setAttribute('aria-level', String(level));
    node.setAttribute('aria-posinset', String(position));
    node.setAttribute('aria-setsize', String(siblings));
    node.setAttribute('aria-selected', String(selected));
    if (expanded !== undefined) {
      node.setAttribute('aria-expanded', String(expanded));
    }
    if (this._painted.get(node) !== row) {
      this._painted.set(node, row);
      const content = makeContent(row);
      if (!node.firstChild?.isEqualNode(content)) {
        node.replaceChildren(content);
      }
    }
    return false;
  }

  onCurrent(key: string): void {
    this.actions.row = this._rows.find(row => row.key === key) ?? null;
  }

  private _open(row: Row): void {
    if (row.expanded !== undefined) {
      this.actions.expand(row, !row.expanded);
    } else {
      this.actions.insertRow(row);
    }
  }

  private _onClick({ target }: MouseEvent): void {
    const row = this._rowOf(this._scroller.idOf(target as Element));
    if (row?.kind === 'method' && (target as Element).closest('button')) {
      this.actions.form = row;
    } else if (row) {
      this._open(row);
    }
  }

  private _onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const row = this._rowOf(this._scroller.current);
    if (
      this._scroller.onKey(event.key) ||
      (row && this._onRowKey(row, event))
    ) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  private _onRowKey(row: Row, event: KeyboardEvent): boolean {
    switch (event.key) {
      case 'ArrowRight':
        if (row.expanded === false) {
          this.actions.expand(row, true);
        } else if (row.expanded) {
          this._focus(this._rows[this._rows.indexOf(row) + 1]);
        }
        return true;
      case 'ArrowLeft':
        if (row.expanded) {
          this.actions.expand(row, false);
        } else {
          this._focus(this._parentOf(row));
        }
        return true;
      case ' ':
        if (row.kind === 'method') {
          this.actions.form = row;
        } else {
          this._open(row);
        }
        return true;
      case 'Enter':
        this._open(row);
        return true;
      case 'ContextMenu':
        return openMenu(event.target as Element);
      case 'F10':
        return event.shiftKey && openMenu(event.target as Element);
      default:
        return false;
    }
  }

  private _focus(row: Row | undefined): void {
    if (row) {
      this._scroller.focusRow(row.key);
    }
  }

  private _rowOf(key: string | null | undefined): Row | undefined {
    return this._rows.find(row => row.key === key);
  }

  private _parentOf(row: Row): Row | undefined {
    return this._rows
      .slice(0, this._rows.indexOf(row))
      .reverse()
      .find(other => other.level < row.level);
  }

  private _rows: readonly Row[] = [];
  private _keys: readonly string[] = [];
  private _filter = '';
  private _revealed: string | null = null;
  private _painted = new WeakMap<HTMLElement, Row>();
  private _scroller: RowScroller;
}

function makeContent(row: Row): HTMLElement {
  const node = make('div', 'fabric-cells');
  node.style.paddingLeft = `${(row.level - 1) * 14}px`;
  if (row.expanded !== undefined) {
    const caret = row.expanded ? caretDownIcon : caretRightIcon;
    node.append(caret.element({ tag: 'span', className: 'fabric-caret' }));
  }
  const label = make('span', 'fabric-grow'); // truncated if it does not fit
  node.append(label);
  switch (row.kind) {
    case 'type':
      label.append(text(row.label, 'fabric-strong'));
      node.append(text(String(row.services), 'fabric-quiet'));
      break;
    case 'service': {
      const { id, version, count, state } = row.service;
      label.append(id);
      if (row.rate) {
        node.append(text(row.rate, 'fabric-quiet', 'calls per second'));
      }
      if (version) {
        node.append(text(version, 'fabric-quiet'));
      }
      if (count !== 0 && count !== 1) {
        node.append(text(`×${count}`, 'fabric-quiet', 'instances'));
      }
      node.append(badge(state));
      break;
    }
    case 'instance': {
      const { id, version, state } = row.instance;
      label.classList.add('fabric-quiet');
      label.append('instance ', text(id || 'unnamed', 'fabric-code'));
      label.append(version && ` ${version}`);
      if (row.rate) {
        node.append(text(row.rate, 'fabric-quiet', 'calls per second'));
      }
      node.append(badge(state));
      break;
    }
    case 'note':
      label.append(text(row.text, 'fabric-quiet', row.text));
      if (row.on === 'methods') {
        node.append(addIcon.element({ tag: 'span', className: 'fabric-mark' }));
      }
      break;
    case 'method': {
      const { name, signature } = row.method;
      label.classList.add('fabric-code');
      label.append(text(name, 'fabric-strong'), signature);
      node.title = `${name}${signature}\nClick to insert the call`;
      const button = make('button', 'fabric-button', {
        tabindex: '-1',
        title: 'Open the form (Space)',
        'aria-hidden': 'true'
      });
      button.append(formIcon.element({ tag: 'span' }));
      node.append(button);
    }
  }
  return node;
}

function text(content: string, className: string, title = ''): HTMLElement {
  const node = make('span', className);
  node.textContent = content;
  node.title = title;
  return node;
}

function badge(content: BadgeContent): HTMLElement {
  const node = make('span');
  paintBadge(node, content);
  return node;
}

/**
 * Open the context menu of a row; false if there is none.
 *
 * Browsers only do so for the menu key, and not on all platforms.
 */
function openMenu(node: Element): boolean {
  const box = node.getBoundingClientRect();
  const event = new MouseEvent('contextmenu', {
    bubbles: true,
    cancelable: true,
    clientX: box.left + ROW_HEIGHT,
    clientY: box.bottom
  });
  const opened = !node.dispatchEvent(event);
  const menu = document.querySelector('.lm-Menu');
  if (opened && menu) {
    // The menu takes the focus and does not restore it.
    new MutationObserver((_, observer) => {
      if (!menu.isConnected) {
        observer.disconnect();
        if (document.activeElement === document.body) {
          (node as HTMLElement).focus();
        }
      }
    }).observe(document.body, { childList: true });
  }
  return opened;
}
