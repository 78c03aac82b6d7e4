/** The services as the rows of a tree. Pure. */

import { IMember, IMethod, IService } from './protocol';

interface IRowBase {
  /** Stays with what the row is about; without spaces, as it becomes part of an element's id. */
  key: string;
  /** From 1. */
  level: number;
  /** Among its siblings, from 1. */
  position: number;
  siblings: number;
  /** Undefined where there is nothing below it. */
  expanded?: boolean;
}

export interface ITypeRow extends IRowBase {
  kind: 'type';
  label: string;
  services: number;
}

export interface IServiceRow extends IRowBase {
  kind: 'service';
  service: IService;
}

export interface IMemberRow extends IRowBase {
  kind: 'member';
  service: IService;
  member: IMember;
}

export interface IMethodRow extends IRowBase {
  kind: 'method';
  service: IService;
  method: IMethod;
}

/** A remark on what is not listed. */
export interface INoteRow extends IRowBase {
  kind: 'note';
  service: IService;
  text: string;
}

export type Row = ITypeRow | IServiceRow | IMemberRow | IMethodRow | INoteRow;

/** Types are open and services closed, until somebody folds them otherwise. */
export function isExpanded(
  row: { kind: 'type' | 'service'; key: string },
  folded: ReadonlyMap<string, boolean>
): boolean {
  return folded.get(row.key) ?? row.kind === 'type';
}

/**
 * The rows in sight, from the top: types, below them services, below those methods and, where
 * there are several, members.
 *
 * @param domain - the notebook's own; types of others stand below it with their domain.
 * @param filter - words that must all be in the address, the state or a method's name.
 * @param folded - by row key, whether it was opened (true) or closed (false).
 */
export function rows(
  services: Iterable<IService>,
  domain: string,
  filter: string,
  folded: ReadonlyMap<string, boolean>
): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map<string, IService[]>();
  for (const service of sorted(services, domain)) {
    if (words.length === 0 || matches(service, words)) {
      const name = `${service.domain}.${service.type}`;
      (groups.get(name) ?? groups.set(name, []).get(name))?.push(service);
    }
  }
  const found: Row[] = [];
  let position = 0;
  for (const [name, members] of groups) {
    const key = `type:${name}`;
    const expanded =
      words.length > 0 || isExpanded({ kind: 'type', key }, folded);
    found.push({
      kind: 'type',
      key,
      level: 1,
      position: ++position,
      siblings: groups.size,
      expanded,
      label: name.startsWith(`${domain}.`)
        ? name.slice(domain.length + 1)
        : name.replace('.', ' / '),
      services: members.length
    });
    if (expanded) {
      members.forEach((service, index) => {
        found.push(...serviceRows(service, index, members.length, folded));
      });
    }
  }
  return found;
}

function serviceRows(
  service: IService,
  index: number,
  siblings: number,
  folded: ReadonlyMap<string, boolean>
): Row[] {
  const name = `${service.domain}.${service.type}.${service.id}`;
  const key = `service:${name}`;
  const expanded = isExpanded({ kind: 'service', key }, folded);
  const row: IServiceRow = {
    kind: 'service',
    key,
    level: 2,
    position: index + 1,
    siblings,
    expanded,
    service
  };
  if (!expanded) {
    return [row];
  }
  const notes = [];
  if (service.methods.length === 0) {
    notes.push('Tells no methods');
  } else if (service.more_methods > 0) {
    notes.push(`${service.more_methods} more methods`);
  }
  const shown = service.members.length > 1 ? service.members : [];
  const below = shown.length + service.methods.length + notes.length;
  let position = 0;
  const place = () => ({ level: 3, position: ++position, siblings: below });
  return [
    row,
    ...service.methods.map((method): Row => ({
      kind: 'method',
      key: `method:${name}.${method.name}`,
      ...place(),
      service,
      method
    })),
    ...notes.map((text): Row => ({
      kind: 'note',
      key: `note:${name}`,
      ...place(),
      service,
      text
    })),
    ...shown.map((member, index): Row => ({
      kind: 'member',
      key: `member:${name}:${index}`,
      ...place(),
      service,
      member
    }))
  ];
}

function sorted(services: Iterable<IService>, domain: string): IService[] {
  const order = (service: IService): string =>
    [
      service.domain === domain ? '' : service.domain,
      service.type,
      service.id
    ].join('\0');
  return [...services]
    .map(service => ({ service, at: order(service) }))
    .sort((one, other) => (one.at < other.at ? -1 : 1))
    .map(({ service }) => service);
}

function matches(service: IService, words: string[]): boolean {
  const text = [
    service.domain,
    service.type,
    service.id,
    service.state,
    ...service.methods.map(method => method.name)
  ]
    .join(' ')
    .toLowerCase();
  return words.every(word => text.includes(word));
}
