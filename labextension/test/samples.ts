import { IMethod, IPush, IService } from '../src/protocol';

export function method(name: string, ...required: string[]): IMethod {
  return {
    name,
    signature: '',
    fields: required.map(name => [name, '', true])
  };
}

export function service(
  address: string,
  methods: IMethod[] = [],
  more: Partial<IService> = {}
): IService {
  const [domain = '', type = '', id = ''] = address.split('.');
  return {
    domain,
    type,
    id,
    state: ['up', 'good'],
    version: '',
    count: 1,
    methods,
    methods_note: '',
    instances: [],
    instances_note: '',
    ...more
  };
}

/** A push with the complete state of a notebook in the domain `d`. */
export function completeState(...services: IService[]): IPush {
  return {
    reset: true,
    facts: {
      connection: {
        badges: [],
        domain: 'd',
        name: 'notebook.nb',
        broker: 'B 1',
        uri: 'amqp://me:***@host/',
        embedded: true,
        join: ''
      },
      connections: [{ name: 'default', domain: 'shop', current: true }],
      busy_since: null,
      services: { up: 1, alone: false, elsewhere: '', notes: [] }
    },
    services: {
      put: Object.fromEntries(
        services.map(each => [`${each.domain}.${each.type}.${each.id}`, each])
      ),
      drop: []
    }
  };
}
