import * as assert from 'node:assert/strict';
import { test } from 'node:test';

import { PanelModel } from '../src/model';

import { completeState, service } from './samples';

test('changes are merged', () => {
  const model = new PanelModel();
  let changes = 0;
  model.changed.connect(() => changes++);
  model.apply(completeState(service('d.calc.c1'), service('d.calc.c2')));
  model.apply({
    services: {
      put: { 'd.calc.c1': service('d.calc.c1', [], { state: 'late' }) },
      drop: ['d.calc.c2']
    }
  });
  assert.deepEqual(
    [...model.services].map(([key, { state }]) => [key, state]),
    [['d.calc.c1', 'late']]
  );
  assert.equal(changes, 2);
});

test('present services of the notebook’s domain are counted', () => {
  const model = new PanelModel();
  model.apply(
    completeState(
      service('d.calc.c1'),
      service('d.calc.c2', [], { state: 'busy' }),
      service('d.calc.c3', [], { state: 'gone' }),
      service('other.calc.c4')
    )
  );
  assert.equal(model.up, 2);
});

test('a notebook that disconnects has no connection', () => {
  const model = new PanelModel();
  model.apply(completeState());
  model.apply({ facts: { connection: {}, busy_since: null } });
  assert.equal(model.connection, null);
  assert.equal(model.phase, 'linked');
});

test('other domains are listed while the kernel reports them', () => {
  const model = new PanelModel();
  model.apply(completeState());
  assert.equal(model.elsewhere, '');
  const { connection } = completeState().facts ?? { connection: {} };
  const elsewhere = 'Also on this broker: shop (1 service): `--domain shop`.';
  model.apply({ facts: { connection, busy_since: null, elsewhere } });
  assert.equal(model.elsewhere, elsewhere);
  model.apply({ facts: { connection, busy_since: null } });
  assert.equal(model.elsewhere, '');
});

test('changes of tables are emitted after the connection is updated', () => {
  const model = new PanelModel();
  const seen: unknown[] = [];
  model.tablesChanged.connect((_, changes) =>
    seen.push([model.connection?.domain, changes])
  );
  const logs = { from: 0, to: 1 };
  model.apply({ ...completeState(), tables: { logs } });
  model.apply({ facts: { connection: {}, busy_since: null } });
  assert.deepEqual(seen, [['d', { logs }]]);
});
