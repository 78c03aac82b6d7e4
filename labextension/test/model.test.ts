import * as assert from 'node:assert/strict';
import { test } from 'node:test';

import { LINES_KEPT, PanelModel } from '../src/model';
import { ILogLine } from '../src/protocol';
import { everything, service } from './things';

test('changes are merged into what is there', () => {
  const model = new PanelModel();
  let changes = 0;
  model.changed.connect(() => changes++);
  model.apply(everything(service('d.calc.c1'), service('d.calc.c2')));
  model.apply({
    services: {
      put: { 'd.calc.c1': service('d.calc.c1', [], { state: 'late' }) },
      drop: ['d.calc.c2']
    }
  });
  assert.deepEqual(
    [...model.services].map(([key, one]) => [key, one.state]),
    [['d.calc.c1', 'late']]
  );
  assert.equal(changes, 2);
});

test('those of the notebook’s domain that are there are counted', () => {
  const model = new PanelModel();
  model.apply(
    everything(
      service('d.calc.c1'),
      service('d.calc.c2', [], { state: 'busy' }),
      service('d.calc.c3', [], { state: 'gone' }),
      service('other.calc.c4')
    )
  );
  assert.equal(model.up, 2);
});

test('a notebook that leaves the fabric has no connection', () => {
  const model = new PanelModel();
  model.apply(everything());
  model.apply({ facts: { connection: {}, busy_since: null } });
  assert.equal(model.connection, null);
  assert.equal(model.phase, 'linked');
});

test('other domains are told as long as the kernel says so', () => {
  const model = new PanelModel();
  model.apply(everything());
  assert.equal(model.elsewhere, '');
  const { connection } = everything().facts ?? { connection: {} };
  const elsewhere = 'Also on this broker: shop (1 service): `--domain shop`.';
  model.apply({ facts: { connection, busy_since: null, elsewhere } });
  assert.equal(model.elsewhere, elsewhere);
  model.apply({ facts: { connection, busy_since: null } });
  assert.equal(model.elsewhere, '');
});

test('the newest log lines are kept, and what came too fast is counted', () => {
  const model = new PanelModel();
  const line = (message: string): ILogLine => ({
    time: 0,
    level: 'INFO',
    service: 'a.b',
    logger: '',
    message,
    traceback: ''
  });
  model.apply(everything());
  for (let push = 0; push < 11; push++) {
    const lines = Array.from({ length: 200 }, (_, index) =>
      line(`${push * 200 + index}`)
    );
    model.apply({ log: { lines, missed: 3 } });
  }
  assert.equal(model.log.length, LINES_KEPT);
  assert.equal(model.log.at(-1)?.message, '2199');
  assert.equal(model.missed, 33);
  assert.equal(new Set(model.log.map(one => one.number)).size, LINES_KEPT);
});
