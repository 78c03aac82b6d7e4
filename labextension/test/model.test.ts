import * as assert from 'node:assert/strict';
import { test } from 'node:test';

import { PanelModel } from '../src/model';

import { completeState, service } from './samples';

const DISCONNECTED = {
  connection: null,
  connections: [],
  busy_since: null,
  services: null
};

test('changes are merged', () => {
  const model = new PanelModel();
  let changes = 0;
  model.changed.connect(() => changes++);
  model.apply(completeState(service('d.calc.c1'), service('d.calc.c2')));
  model.apply({
    services: {
      put: {
        'd.calc.c1': service('d.calc.c1', [], { state: ['late', 'warn'] })
      },
      drop: ['d.calc.c2']
    }
  });
  assert.deepEqual(
    [...model.services].map(([key, { state }]) => [key, state[0]]),
    [['d.calc.c1', 'late']]
  );
  assert.equal(changes, 2);
});

test('statistics are apart from services', () => {
  const model = new PanelModel();
  const item = { rate: '1.0/s', lines: [], instances: {} };
  model.apply(completeState(service('d.calc.c1')));
  model.apply({ statistics: { put: { a: item, b: item }, drop: [] } });
  model.apply({ statistics: { put: {}, drop: ['a'] } });
  assert.deepEqual([...model.statistics.keys()], ['b']);
  assert.deepEqual([...model.services.keys()], ['d.calc.c1']);
  model.apply({ reset: true });
  assert.equal(model.statistics.size, 0);
});

test('a notebook that disconnects has no connection', () => {
  const model = new PanelModel();
  model.apply(completeState());
  model.apply({ facts: DISCONNECTED });
  assert.equal(model.connection, null);
  assert.equal(model.phase, 'linked');
});

test('the facts are those of the last push', () => {
  const model = new PanelModel();
  const up = () => model.facts.services?.up;
  assert.equal(up(), undefined);
  model.apply(completeState());
  assert.equal(up(), 1);
  model.apply({ facts: DISCONNECTED });
  assert.equal(up(), undefined);
});

test('changes of tables are emitted after the connection is updated', () => {
  const model = new PanelModel();
  const seen: unknown[] = [];
  model.tablesChanged.connect((_, changes) =>
    seen.push([model.connection?.domain, changes])
  );
  const logs = { from: 0, to: 1 };
  model.apply({ ...completeState(), tables: { logs } });
  model.apply({ facts: DISCONNECTED });
  assert.deepEqual(seen, [['d', { logs }]]);
});
