/** The services as the rows of a tree. Pure. */

import { IInstance, IMethod, IService, IStatistics } from './protocol';

interface IRowBase {
  /** Stable key; without spaces, because it is part of an element's id. */
  key: string;
  /** Level in the tree, from 1. */
  level: number;
  /** Position among its siblings, from 1. */
  position: number;
  siblings: number;
  /** Undefined for a row without children. */
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
  /** Calls per second; empty if there are none. */
  rate: string;
}

export interface IInstanceRow extends IRowBase {
  kind: 'instance';
  service: IService;
  instance: IInstance;
  /** Calls per second; empty if there are none. */
  rate: string;
}

export interface IMethodRow extends IRowBase {
  kind: 'method';
  service: IService;
  method: IMethod;
}

/** A note on methods or instances that are not listed, or a line of statistics. */
export interface INoteRow extends IRowBase {
  kind: 'note';
  service: IService;
  on: 'methods' | 'instances' | 'statistics';
  text: string;
}

/** A row without its place in the tree. */
type Content<T extends IRowBase> = Omit<T, 'level' | 'position' | 'siblings'>;

export type Row = ITypeRow | IServiceRow | IInstanceRow | IMethodRow | INoteRow;

/** Whether a row is expanded; by default types are, and services are not. */
export function isExpanded(
  row: { kind: 'type' | 'service'; key: string },
  expansion: ReadonlyMap<string, boolean>
): boolean {
  return expansion.get(row.key) ?? row.kind === 'type';
}

/**
 * Visible rows of the tree: types, their services, and the methods and instances of those.
 *
 * @param domain - the notebook's own domain; types of other domains follow, with the domain.
 * @param filter - words that must all occur in the address, the state or the methods.
 * @param expansion - whether a row is expanded, by row key; others have the default.
 * @param statistics - statistics by full name.
 */
export function rows(
  services: Iterable<IService>,
  domain: string,
  filter: string,
  expansion: ReadonlyMap<string, boolean>,
  statistics: ReadonlyMap<string, IStatistics> = new Map()
): Row[] {
  const words = wordsOf(filter);
  const groups = new Map<string, IService[]>();
  for (const service of sorted(services, domain)) {
    if (words.length === 0 || matches(service, words)) {
      const name = `${service.domain}.${service.type}`;
      (groups.get(name) ?? groups.set(name, []).get(name))?.push(service);
    }
  }
  const found: Row[] = [];
  let position = 0;
  for (const [name, group] of groups) {
    const key = `type:${name}`; // as in `typeKey`
    const expanded =
      words.length > 0 || isExpanded({ kind: 'type', key }, expansion);
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
      services: group.length
    });
    if (expanded) {
      group.forEach((service, index) => {
        const place = { position: index + 1, siblings: group.length };
        const own = statistics.get(fullName(service));
        found.push(...serviceRows(service, place, expansion, own));
      });
    }
  }
  return found;
}

function fullName({ domain, type, id }: IService): string {
  return `${domain}.${type}.${id}`;
}

function serviceRows(
  service: IService,
  among: { position: number; siblings: number },
  expansion: ReadonlyMap<string, boolean>,
  statistics?: IStatistics
): Row[] {
  const name = fullName(service);
  const key = serviceKey(service);
  const expanded = isExpanded({ kind: 'service', key }, expansion);
  const row: IServiceRow = {
    kind: 'service',
    key,
    level: 2,
    ...among,
    expanded,
    service,
    rate: statistics?.rate ?? ''
  };
  if (!expanded) {
    return [row];
  }
  const note = (on: INoteRow['on'], text: string): Content<INoteRow>[] =>
    text
      ? [{ kind: 'note', key: `note:${on}:${name}`, service, on, text }]
      : [];
  const children = [
    ...(statistics?.lines ?? []).map((text, index): Content<INoteRow> => ({
      kind: 'note',
      key: `note:statistics:${name}:${index}`,
      service,
      on: 'statistics',
      text
    })),
    ...service.methods.map((method): Content<IMethodRow> => ({
      kind: 'method',
      key: `method:${name}.${method.name}`,
      service,
      method
    })),
    ...note('methods', service.methods_note),
    ...service.instances.map((instance, index): Content<IInstanceRow> => ({
      kind: 'instance',
      key: `instance:${name}:${index}`,
      service,
      instance,
      rate: statistics?.instances[instance.id] ?? ''
    })),
    ...note('instances', service.instances_note)
  ];
  const place = { level: 3, siblings: children.length };
  return [
    row,
    ...children.map((child, index) => ({
      ...child,
      ...place,
      position: index + 1
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
    .map(service => ({ service, key: order(service) }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ service }) => service);
}

/** Key of the row of a service. */
export function serviceKey(service: IService): string {
  return `service:${fullName(service)}`;
}

/** Key of the row above the row of a service. */
export function typeKey(service: IService): string {
  return `type:${service.domain}.${service.type}`;
}

/** Whether a service is shown with a filter. */
export function matchesFilter(service: IService, filter: string): boolean {
  return matches(service, wordsOf(filter));
}

function wordsOf(filter: string): string[] {
  return filter.toLowerCase().split(/\s+/).filter(Boolean);
}

function matches(service: IService, words: string[]): boolean {
  const text = [
    service.domain,
    service.type,
    service.id,
    service.state[0],
    ...service.methods.map(method => method.name)
  ]
    .join(' ')
    .toLowerCase();
  return words.every(word => text.includes(word));
}
