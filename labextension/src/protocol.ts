/**
 * Messages between the kernel (`fabric_nb/notebook/panel`) and the panel.
 *
 * All text may be from remote services. The kernel has truncated and sanitized it; here it is only
 * shown as text, and checked again before it is inserted into a cell (`cells.ts`).
 */

import type { Field } from '../../fabric_nb/notebook/table/form.js';

/** Target name of the comm for pushes. */
export const TARGET = 'fabric_nb.panel';
/** Target name of the comm for requests. */
export const REQUESTS = 'fabric_nb.panel.requests';

/** A badge, as in the tables under cells. */
export type BadgeContent = [text: string, tone: string];

export interface IConnection {
  /** State of the connection; empty while it is usable. */
  badges: BadgeContent[];
  domain: string;
  /** Address of the notebook, as `type.id`. */
  name: string;
  broker: string;
  /** URI of the broker, with the password masked. */
  uri: string;
  embedded: boolean;
  /** URI for %fabric_connect in another notebook; empty if the default is the same broker. */
  join: string;
}

export interface IMethod {
  name: string;
  signature: string;
  /** Fields of its form, one for each argument. */
  fields: Field[];
}

export interface IInstance {
  id: string;
  state: BadgeContent;
  version: string;
}

export interface IService {
  domain: string;
  type: string;
  id: string;
  state: BadgeContent;
  version: string;
  /** Number of present instances, with `+` if there may be more. */
  count: number | string;
  methods: IMethod[];
  /** Remark on methods that are not listed; else empty. */
  methods_note: string;
  /** Instances, if there are several. */
  instances: IInstance[];
  /** Remark on instances that are not listed; else empty. */
  instances_note: string;
}

/** Statistics of a service, as text. */
export interface IStatistics {
  /** Calls per second; empty if there are none. */
  rate: string;
  /** Lines that are shown in the opened service. */
  lines: string[];
  /** Calls per second by id of the instances, if there are several. */
  instances: { [id: string]: string };
}

/** Remarks on all services. */
export interface IRemarks {
  /** Number of services of the notebook's domain that are up. */
  up: number;
  /** Whether the notebook's domain has no services but its own. */
  alone: boolean;
  /** Sentence on other domains, if it is alone. */
  elsewhere: string;
  /** Sentences on what the tree does not show. */
  notes: string[];
}

/** An open connection of the notebook. */
export interface INamedConnection {
  name: string;
  domain: string;
  /** Whether the magics use it. */
  current: boolean;
}

export interface IFacts {
  /** Connection of the notebook that is in use; null if there is none. */
  connection: IConnection | null;
  connections: INamedConnection[];
  /** Unix time since when a cell has blocked the notebook's event loop; null if it is not blocked. */
  busy_since: number | null;
  /** Null while the services are not known. */
  services: IRemarks | null;
}

/** Names of the tables that the kernel pushes. */
export type TableName = 'calls' | 'streams' | 'serving' | 'graph' | 'logs';

/** Changes by table, for `Rows.apply`. */
export type TableChanges = { [name in TableName]?: object };

/** Changes of items by full name of the service. */
export interface IChanges<T> {
  put: { [name: string]: T };
  drop: string[];
}

export interface IResult {
  id: string;
  text: string;
  error: string;
  /** Field of the form that the error is about. */
  field?: string;
}

/** Progress of a call that was requested; empty if nothing is known. */
export interface IProgress {
  id: string;
  text: string;
}

/** A push. */
export interface IPush {
  /** One more than that of the push before; the server may drop a push. */
  number?: number;
  /** Whether this is the complete state. */
  reset?: boolean;
  facts?: IFacts;
  services?: IChanges<IService>;
  statistics?: IChanges<IStatistics>;
  tables?: TableChanges;
  progress?: IProgress[];
  results?: IResult[];
}

/** First message of the kernel on the request comm, and its replies. */
export interface IReply {
  protocol?: number;
  version?: string;
  id?: string;
  error?: string;
}
