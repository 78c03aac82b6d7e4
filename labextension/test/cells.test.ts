import * as assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  callCell,
  connectCell,
  fullAddress,
  partialCallCell,
  stopCell,
  streamCell,
  usesFabric
} from '../src/cells';
import { method, service } from './samples';

const calc = service('d.calc.c1');
const HOSTILE = [
  'x; import os',
  'x\n!rm -rf ~',
  '$(id)',
  '{secret}',
  "x'",
  'x y',
  '',
  'ｘ',
  '../x',
  '%magic'
];

test('a call has placeholders for its arguments, the first selected', () => {
  const cell = callCell(calc, method('add', 'x', 'y'), 'd', 'magic');
  assert.equal(cell?.text, '%fabric_call calc.c1.add x=... y=...');
  assert.equal(cell.text.slice(cell.start, cell.end), '...');
  assert.equal(cell.start, cell.text.indexOf('...'));
});

test('a call can be inserted as Python', () => {
  assert.equal(
    callCell(calc, method('add', 'x'), 'd', 'python')?.text,
    'await fabric.call("calc.c1.add", x=...)'
  );
  assert.equal(
    callCell(calc, method('whoami'), 'd', 'python')?.text,
    'await fabric.call("calc.c1.whoami")'
  );
});

test('a service of another domain has its full address', () => {
  assert.equal(
    callCell(calc, method('whoami'), 'mine', 'magic')?.text,
    '%fabric_call d.calc.c1.whoami'
  );
  assert.equal(
    partialCallCell(calc, 'd', 'magic')?.text,
    '%fabric_call calc.c1....'
  );
});

test('a remote name that is not an identifier is never inserted', () => {
  for (const name of HOSTILE) {
    const hostile = { ...calc, id: name };
    assert.equal(callCell(hostile, method('add'), 'd', 'magic'), null, name);
    assert.equal(partialCallCell(hostile, 'd', 'python'), null, name);
    assert.equal(fullAddress(hostile), null, name);
    assert.equal(
      callCell({ ...calc, domain: name }, method('add'), 'd', 'magic'),
      null,
      name
    );
    assert.equal(callCell(calc, method(name), 'd', 'magic'), null, name);
    assert.equal(callCell(calc, method('add', name), 'd', 'python'), null);
    assert.equal(fullAddress(calc, method(name)), null, name);
    assert.equal(stopCell(`calc.${name}`), null, name);
    assert.equal(streamCell(name), null, name);
    assert.equal(connectCell(false, name).text, '%fabric_connect');
  }
});

test('a value with a line break is not inserted', () => {
  const add = method('add', 'x');
  const values = new Map([['x', '1\n!id']]);
  assert.equal(callCell(calc, add, 'd', 'magic', values), null);
});

test('connecting uses the default domain, and loads if necessary', () => {
  assert.equal(connectCell(false, '').text, '%fabric_connect');
  assert.equal(
    connectCell(true, 'shop').text,
    '%load_ext fabric_nb\n%fabric_connect --domain shop'
  );
});

test('connecting uses the URI of another notebook, if it is one word', () => {
  for (const uri of [
    'amqp://ann@broker.example:5672/my%2Fhost',
    'amqps://a.example,b.example/v',
    'amqp://[::1]/'
  ]) {
    assert.equal(
      connectCell(false, 'd', uri).text,
      `%fabric_connect ${uri} --domain d`
    );
  }
  for (const uri of [
    'amqp://ann:secret@broker.example/',
    'amqp://h/ --id x',
    'amqp://h/{x}',
    'amqp://$x/',
    'amqp://h/\n!id',
    'http://h/'
  ]) {
    assert.equal(
      connectCell(false, 'd', uri).text,
      '%fabric_connect --domain d'
    );
  }
});

test('a cell that uses a magic of fabric_nb is recognised', () => {
  for (const text of [
    '%fabric_connect',
    '%%fabric_serve --id x\ndef f(): pass',
    'x = 1\ntx = %fabric_stream a=b',
    '  %fabric'
  ]) {
    assert.ok(usesFabric(text), text);
  }
  for (const text of [
    'x = 1',
    '# %fabric_connect',
    '%load_ext fabric_nb',
    ''
  ]) {
    assert.ok(!usesFabric(text), text);
  }
});
