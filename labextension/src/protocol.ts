/**
 * What travels between the kernel and the panel; the kernel's side is
 * `fabric_nb/notebook/panel`.
 *
 * All text in it may come from anywhere on the fabric. The kernel has cut it and freed it of
 * control characters; here it is only ever shown as text, and what is to be written into a cell
 * is checked again (`cells.ts`).
 */

/** The comm on which the kernel pushes. */
export const TARGET = 'fabric_nb.panel';
/** The comm that takes requests. */
export const REQUESTS = 'fabric_nb.panel.requests';

export type ServiceState = 'up' | 'busy' | 'late' | 'gone';

export interface IConnection {
  state: 'connected' | 'blocked' | 'reconnecting' | 'closed';
  domain: string;
  /** The notebook's own type.id. */
  name: string;
  broker: string;
  /** Where the broker is; its password is masked. */
  uri: string;
  embedded: boolean;
  /** What another notebook gives %fabric_connect to come here; nothing where it finds it itself. */
  join: string;
}

export interface IMethod {
  name: string;
  signature: string;
  required: string[];
  optional: string[];
  /** Whether it takes arguments that it does not name. */
  open: boolean;
}

export interface IMember {
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
  members: IMember[];
  more_members: number;
  /** Whether there may be more members than are told. */
  uncounted: boolean;
  methods: IMethod[];
  more_methods: number;
}

/** Tables whose changes the kernel pushes. */
export type TableName = 'streams' | 'serving' | 'logs';

/** What has changed in each table, for `Rows.apply`. */
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

/** One push. */
export interface IPush {
  /** Forget everything that came before. */
  reset?: boolean;
  facts?: {
    connection: IConnection | Record<string, never>;
    /** Seconds since 1970 since when the notebook's loop has not run. */
    busy_since: number | null;
    /** On other domains of the broker, where the notebook is alone in its own. */
    elsewhere?: string;
  };
  services?: IChange<IService>;
  tables?: TableChanges;
  results?: IResult[];
}

/** The first word of the kernel on the request comm, and its answers. */
export interface IReply {
  protocol?: number;
  version?: string;
  id?: string;
  error?: string;
}
