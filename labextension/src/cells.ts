/** Source of cells that the panel inserts. Pure. */

import { IMethod, IService } from './protocol';

/** Syntax of an inserted call: a magic, or Python. */
export type InsertStyle = 'magic' | 'python';

/** Placeholder for an argument; valid in Python and in the magic, and rejected by services. */
export const PLACEHOLDER = '...';

/** Source of a cell, with the range to select. */
export interface ICellText {
  text: string;
  start: number;
  end: number;
}

const PART = /^[A-Za-z0-9_-]{1,63}$/;
// A single word without braces and dollars, which IPython would expand in the line of a magic.
const URI =
  /^amqps?:\/\/(?:[A-Za-z0-9._~%-]+@)?[A-Za-z0-9.,:[\]-]+(?:\/[A-Za-z0-9._~%-]*)?$/;
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
// A line break would end the call.
const LINE_BREAKS = /[\r\n\u0085\u2028\u2029]/;

/**
 * Address of a service in a call: `type.id` in the notebook's own domain, else the full name.
 *
 * Null if it is not safe in a cell, independent of the kernel's checks.
 */
export function address(service: IService, domain: string): string | null {
  const { type, id } = service;
  if (![service.domain, type, id].every(part => PART.test(part))) {
    return null;
  }
  return service.domain === domain
    ? `${type}.${id}`
    : `${service.domain}.${type}.${id}`;
}

/** Full address of a method or a service; null as for `address`. */
export function fullAddress(
  service: IService,
  method?: IMethod
): string | null {
  const full = address(service, '');
  if (full === null || method === undefined) {
    return full;
  }
  return IDENTIFIER.test(method.name) ? `${full}.${method.name}` : null;
}

/**
 * Cell that calls a method.
 *
 * @param values - Python expressions by argument; by default a placeholder for each required
 * argument, of which the first is selected.
 * @returns null if a name is not an identifier.
 */
export function callCell(
  service: IService,
  method: IMethod,
  domain: string,
  style: InsertStyle,
  values?: ReadonlyMap<string, string>
): ICellText | null {
  const target = address(service, domain);
  if (target === null || !IDENTIFIER.test(method.name)) {
    return null;
  }
  const given =
    values ??
    new Map(requiredArguments(method).map(name => [name, PLACEHOLDER]));
  for (const [name, value] of given) {
    if (!IDENTIFIER.test(name) || LINE_BREAKS.test(value)) {
      return null;
    }
  }
  const keywords = [...given].map(([name, value]) => `${name}=${value}`);
  const call = `${target}.${method.name}`;
  const text =
    style === 'magic'
      ? ['%fabric_call', call, ...keywords].join(' ')
      : `await fabric.call(${[`"${call}"`, ...keywords].join(', ')})`;
  return selectPlaceholder(text);
}

/** Names of the arguments that a method requires. */
export function requiredArguments(method: IMethod): string[] {
  return method.fields.flatMap(([name, , required]) =>
    required ? [name] : []
  );
}

/** Cell with an incomplete call of a service that announces no methods. */
export function partialCallCell(
  service: IService,
  domain: string,
  style: InsertStyle
): ICellText | null {
  const target = address(service, domain);
  if (target === null) {
    return null;
  }
  return style === 'magic'
    ? selectPlaceholder(`%fabric_call ${target}.${PLACEHOLDER}`)
    : selectPlaceholder(`await fabric.call("${target}.${PLACEHOLDER}")`);
}

/** Cell with the DataFrame of a stream; null if the stream is in no variable. */
export function streamCell(variable: string): ICellText | null {
  return IDENTIFIER.test(variable) ? atEnd(`df = ${variable}.df\ndf`) : null;
}

/** Cell that stops the service with the address `type.id`. */
export function stopCell(address: string): ICellText | null {
  const parts = address.split('.');
  return parts.length === 2 && parts.every(part => PART.test(part))
    ? atEnd(`%fabric_stop ${address}`)
    : null;
}

/**
 * Cell that connects.
 *
 * @param load - whether it loads fabric_nb first.
 * @param uri - broker, without password; empty for the default of %fabric_connect.
 */
export function connectCell(
  load: boolean,
  domain: string,
  uri = ''
): ICellText {
  const words = ['%fabric_connect'];
  if (URI.test(uri)) {
    words.push(uri);
  }
  if (PART.test(domain)) {
    words.push('--domain', domain);
  }
  const connect = words.join(' ');
  return atEnd(load ? `%load_ext fabric_nb\n${connect}` : connect);
}

/** Cell that uses another connection; null if its name is not safe in a cell. */
export function switchCell(name: string): ICellText | null {
  return PART.test(name) ? atEnd(`%fabric_use ${name}`) : null;
}

/** Cell that loads fabric_nb. */
export function loadCell(): ICellText {
  return atEnd('%load_ext fabric_nb');
}

/** Whether the source of a cell loads fabric_nb. */
export function loadsFabric(source: string): boolean {
  return /^[^#\n]*load_ext\s+fabric_nb\b/m.test(source);
}

/** Whether the source of a cell uses a magic of fabric_nb. */
export function usesFabric(source: string): boolean {
  return /^[^#\n]*%{1,2}fabric/m.test(source);
}

function selectPlaceholder(text: string): ICellText {
  const start = text.indexOf(PLACEHOLDER);
  return start < 0
    ? atEnd(text)
    : { text, start, end: start + PLACEHOLDER.length };
}

function atEnd(text: string): ICellText {
  return { text, start: text.length, end: text.length };
}
