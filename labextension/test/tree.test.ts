import * as assert from 'node:assert/strict';
import { test } from 'node:test';

import { IService } from '../src/protocol';
import { Row, rows } from '../src/tree';
import { method, service } from './samples';

const SERVICES = [
  service('d.math.calc', [method('add', 'x'), method('divide')]),
  service('other.math.far'),
  service('d.host.monitor', [], {
    methods_note: 'No methods announced',
    instances: [
      { id: 'a1', state: ['up', 'good'], version: '' },
      { id: 'b2', state: ['late', 'warn'], version: '' }
    ],
    instances_note: '3 more instances'
  })
];

function shown(
  services: IService[],
  filter = '',
  expansion: [string, boolean][] = []
): string[] {
  return rows(services, 'd', filter, new Map(expansion)).map(row =>
    '  '.repeat(row.level - 1).concat(labelOf(row))
  );
}

function labelOf(row: Row): string {
  switch (row.kind) {
    case 'type':
      return `${row.label} (${row.services})`;
    case 'service':
      return row.service.id;
    case 'method':
      return row.method.name;
    case 'instance':
      return row.instance.id;
    case 'note':
      return row.text;
  }
}

test('statistics are at the top of an expanded service', () => {
  const statistics = {
    rate: '12/s',
    lines: ['12/s answered', '40 calls'],
    instances: { a1: '12/s' }
  };
  const [, row, ...children] = rows(
    [SERVICES[2] as IService],
    'd',
    '',
    new Map([['service:d.host.monitor', true]]),
    new Map([['d.host.monitor', statistics]])
  );
  assert.equal(row?.kind === 'service' && row.rate, '12/s');
  assert.deepEqual(children.map(labelOf).slice(0, 2), statistics.lines);
  assert.deepEqual(
    children.flatMap(child => (child.kind === 'instance' ? [child.rate] : [])),
    ['12/s', '']
  );
});

test('types contain services; the notebook’s own domain is first', () => {
  assert.deepEqual(shown(SERVICES), [
    'host (1)',
    '  monitor',
    'math (1)',
    '  calc',
    'other / math (1)',
    '  far'
  ]);
});

test('an expanded service has its methods, or a note, and its instances', () => {
  assert.deepEqual(
    shown(SERVICES, '', [
      ['service:d.math.calc', true],
      ['service:d.host.monitor', true],
      ['type:other.math', false]
    ]),
    [
      'host (1)',
      '  monitor',
      '    No methods announced',
      '    a1',
      '    b2',
      '    3 more instances',
      'math (1)',
      '  calc',
      '    add',
      '    divide',
      'other / math (1)'
    ]
  );
});

test('the filter matches words of addresses, states and methods', () => {
  assert.deepEqual(shown(SERVICES, 'CALC'), ['math (1)', '  calc']);
  assert.deepEqual(shown(SERVICES, 'div'), ['math (1)', '  calc']);
  assert.deepEqual(shown(SERVICES, 'math far'), ['other / math (1)', '  far']);
  assert.deepEqual(shown(SERVICES, 'nothing'), []);
});

test('rows have their position for screen readers', () => {
  const all = rows(SERVICES, 'd', '', new Map([['service:d.math.calc', true]]));
  const divide = all.find(
    row => row.kind === 'method' && row.method.name === 'divide'
  );
  assert.deepEqual(
    [divide?.level, divide?.position, divide?.siblings, divide?.expanded],
    [3, 2, 2, undefined]
  );
  for (const row of all) {
    assert.doesNotMatch(row.key, /\s/);
  }
  assert.equal(new Set(all.map(row => row.key)).size, all.length);
});
