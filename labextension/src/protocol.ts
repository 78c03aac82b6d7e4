/**
 * Messages between the kernel (`fabric_nb/notebook/panel`) and the panel.
 *
 * All text may be from remote services. The kernel has truncated and sanitized it; here it is only
 * shown as text, and checked again before it is inserted into a cell (`cells.ts`).
 */

/** Target name of the comm for pushes. */
export const TARGET = 'fabric_nb.panel';
/** Target name of the comm for requests. */
export const REQUESTS = 'fabric_nb.panel.requests';

export type ServiceState = 'up' | 'busy' | 'late' | 'gone';

export interface IConnection {
  state: 'connected' | 'blocked' | 'reconnecting' | 'closed';
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
  required: string[];
  optional: string[];
  /** Whether it accepts further keyword arguments. */
  open: boolean;
}

export interface IInstance {
  id: string;
  state: ServiceState;
  version: string;
}

export interface IService {
  domain: string;
  type: string;
  id: string;
  state: ServiceState;
  version: string;
  instances: IInstance[];
  more_instances: number;
  /** Whether there may be more instances, because some send no id. */
  uncounted: boolean;
  methods: IMethod[];
  more_methods: number;
}

/** Names of the tables that the kernel pushes. */
export type TableName = 'streams' | 'serving' | 'logs';

/** Changes by table, for `Rows.apply`. */
export type TableChanges = { [name in TableName]?: object };

export interface IChange<T> {
  put: { [key: string]: T };
  drop: string[];
}

export interface IResult {
  id: string;
  text: string;
  error: string;
}

/** A push. */
export interface IPush {
  /** Whether this is the complete state. */
  reset?: boolean;
  facts?: {
    connection: IConnection | Record<string, never>;
    /** Unix time since when the notebook's event loop has been blocked. */
    busy_since: number | null;
    /** Sentence on other domains, if the notebook's has no other service. */
    elsewhere?: string;
  };
  services?: IChange<IService>;
  tables?: TableChanges;
  results?: IResult[];
}

/** First message of the kernel on the request comm, and its replies. */
export interface IReply {
  protocol?: number;
  version?: string;
  id?: string;
  error?: string;
}
