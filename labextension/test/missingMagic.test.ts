import * as assert from 'node:assert/strict';
import { test } from 'node:test';

import { loadAdvice, missingMagic } from '../src/missingMagic';

function stderr(text: string | string[]): object {
  return { output_type: 'stream', name: 'stderr', text };
}

function line(name: string): string {
  return `UsageError: Line magic function \`%${name}\` not found.\n`;
}

test('a missing magic of fabric_nb is recognised', () => {
  for (const name of ['fabric', 'fabric_connect', 'fabric_services']) {
    assert.equal(missingMagic([stderr(line(name))]), `%${name}`);
    const cell = `UsageError: Cell magic \`%%${name}\` not found.\n`;
    assert.equal(missingMagic([stderr(cell)]), `%%${name}`);
  }
});

test('it is recognised among other output', () => {
  const error = line('fabric_call');
  const printed = { output_type: 'stream', name: 'stdout', text: 'hello\n' };
  assert.equal(
    missingMagic([printed, stderr(`a warning\n${error}later\n`)]),
    '%fabric_call'
  );
  assert.equal(
    missingMagic([stderr(['a warning\n', error]), printed]),
    '%fabric_call'
  );
});

test('other output is not mistaken for it', () => {
  const others = [
    line('matplotlib'),
    line('fabrics'),
    line('fabric_'),
    line('my_fabric_call'),
    line(`fabric_${'x'.repeat(1000)}`),
    line('fabric_<img src=x>'),
    line('fabric_call').replace('UsageError', 'He said: UsageError'),
    // fabric_nb is loaded, and has the other kind of magic.
    'UsageError: Line magic function `%fabric_serve` not found (But cell magic `%%fabric_serve`' +
      ' exists, did you mean that instead?).\n'
  ];
  for (const text of others) {
    assert.equal(missingMagic([stderr(text)]), null, text);
  }
  const text = line('fabric_call');
  assert.equal(
    missingMagic([{ output_type: 'stream', name: 'stdout', text }]),
    null
  );
  assert.equal(
    missingMagic([{ output_type: 'error', ename: 'E', evalue: text }]),
    null
  );
  for (const outputs of [undefined, null, [], 'text', [5, 'text', {}]]) {
    assert.equal(missingMagic(outputs), null);
  }
});

test('the message is one sentence with problem, notebook and advice', () => {
  assert.equal(
    loadAdvice('%fabric_call', 'a.ipynb'),
    '%fabric_call needs fabric_nb, which is not loaded in a.ipynb; load it and run the cell again.'
  );
  // JupyterLab truncates longer messages.
  assert.ok(
    loadAdvice(`%%fabric_${'x'.repeat(20)}`, 'n'.repeat(400)).length <= 140
  );
});
