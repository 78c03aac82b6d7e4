/** The text of cells that the panel inserts. Pure. */

import { IMethod, IService } from './protocol';

/** How a call is written: as a magic, or as Python. */
export type InsertStyle = 'magic' | 'python';

/** What is to be filled in; both Python and the magic read it, and no service takes it. */
export const BLANK = '...';

/** A cell's text, and what of it is selected. */
export interface ICellText {
  text: string;
  start: number;
  end: number;
}

const PART = /^[A-Za-z0-9_-]{1,63}$/;
// As one word of a magic's line; no braces and no dollar, which IPython would expand.
const URI =
  /^amqps?:\/\/(?:[A-Za-z0-9._~%-]+@)?[A-Za-z0-9.,:[\]-]+(?:\/[A-Za-z0-9._~%-]*)?$/;
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
// `%fabric_call` reads a value to the next name=, so that a line end would end the call.
const BREAKS = /[\r\n\u0085\u2028\u2029]/;

/**
 * The address of a service as a call names it: type.id in the notebook's own domain, else in full.
 *
 * Null when it could not be written into a cell, whatever the kernel says.
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

/** The full address of a method, or of a service; null as for `address`. */
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
 * A cell that calls a method.
 *
 * @param values - Python expressions by argument; without them the required arguments are left
 * to be filled in, and the first is selected.
 * @returns null when a name in it is no identifier.
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
    values ?? new Map(method.required.map(name => [name, BLANK] as const));
  for (const [name, value] of given) {
    if (!IDENTIFIER.test(name) || BREAKS.test(value)) {
      return null;
    }
  }
  const keywords = [...given].map(([name, value]) => `${name}=${value}`);
  const call = `${target}.${method.name}`;
  const text =
    style === 'magic'
      ? ['%fabric_call', call, ...keywords].join(' ')
      : `await fabric.call(${[`"${call}"`, ...keywords].join(', ')})`;
  return selectBlank(text);
}

/** A cell that begins a call of a service that does not tell its methods. */
export function openCell(
  service: IService,
  domain: string,
  style: InsertStyle
): ICellText | null {
  const target = address(service, domain);
  if (target === null) {
    return null;
  }
  return style === 'magic'
    ? selectBlank(`%fabric_call ${target}.${BLANK}`)
    : selectBlank(`await fabric.call("${target}.${BLANK}")`);
}

/** A cell that takes the rows of a stream; null when no variable holds the stream. */
export function streamCell(variable: string): ICellText | null {
  return IDENTIFIER.test(variable) ? atEnd(`df = ${variable}.df\ndf`) : null;
}

/** A cell that ends the service with the address `type.id`. */
export function stopCell(address: string): ICellText | null {
  const parts = address.split('.');
  return parts.length === 2 && parts.every(part => PART.test(part))
    ? atEnd(`%fabric_stop ${address}`)
    : null;
}

/**
 * A cell that loads fabric_nb, where that is wanted, and connects.
 *
 * @param uri - where to, without a password; nothing for what %fabric_connect finds by itself.
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

/** A cell that loads fabric_nb. */
export function loadCell(): ICellText {
  return atEnd('%load_ext fabric_nb');
}

/** Whether a cell loads fabric_nb itself. */
export function loadsFabric(source: string): boolean {
  return /^[^#\n]*load_ext\s+fabric_nb\b/m.test(source);
}

/** Whether a cell uses fabric_nb, so that it has to stand below the one that loads it. */
export function usesFabric(source: string): boolean {
  return /^[^#\n]*%{1,2}fabric/m.test(source);
}

function selectBlank(text: string): ICellText {
  const start = text.indexOf(BLANK);
  return start < 0 ? atEnd(text) : { text, start, end: start + BLANK.length };
}

function atEnd(text: string): ICellText {
  return { text, start: text.length, end: text.length };
}
