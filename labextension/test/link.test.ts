import * as assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { KernelLink } from '../src/link';
import { PanelModel } from '../src/model';
import { FakeKernel, settled } from './fakes';
import { everything, service } from './things';

describe('the link to a kernel', () => {
  let kernel: FakeKernel;
  let model: PanelModel;
  let link: KernelLink;
  let ids = 0;

  beforeEach(() => {
    kernel = new FakeKernel();
    model = new PanelModel();
  });

  afterEach(() => {
    link.dispose();
  });

  async function connect(): Promise<void> {
    link = new KernelLink(
      kernel.asKernel,
      model,
      kernel.find,
      () => `id${++ids}`
    );
    await settled();
  }

  async function linked(): Promise<void> {
    kernel.loaded = ['push'];
    await connect();
    kernel.push(everything(service('d.calc.c1')));
    kernel.requests.answer({ id: kernel.requests.sent[0]?.id });
    await settled();
    assert.equal(model.phase, 'linked');
  }

  test('a kernel without fabric_nb is left alone', async () => {
    await connect();
    assert.equal(model.phase, 'unloaded');
    assert.equal(kernel.comms.length, 0);
  });

  test('a kernel with fabric_nb is asked for everything', async () => {
    await linked();
    assert.ok(kernel.requests.opened);
    assert.equal(kernel.requests.sent[0]?.do, 'tell');
    assert.equal(model.services.size, 1);
    assert.equal(model.connection?.domain, 'd');
  });

  test('a later load is seen when the cell has run, even if others wait', async () => {
    await connect();
    kernel.ran('1 + 1');
    await settled();
    assert.equal(model.phase, 'unloaded');
    kernel.loaded = ['push'];
    kernel.ran('%load_ext fabric_nb');
    await settled();
    assert.equal(model.phase, 'linking');
    assert.deepEqual(kernel.asked, [false, false, true]);
  });

  test('who looks waits for the answer, also for one that was asked for before', async () => {
    await connect();
    kernel.loaded = ['push'];
    kernel.ran('%load_ext fabric_nb');
    const looked = link.look().then(() => model.phase);
    await settled();
    kernel.push(everything());
    kernel.requests.answer({ id: kernel.requests.sent[0]?.id });
    assert.equal(await looked, 'linked');
    assert.equal(kernel.asked.length, 2);
  });

  test('the answer to its own question is no reason to ask again', async () => {
    await connect();
    kernel.say('status', { execution_state: 'idle' }, 'comm_info_request');
    await settled();
    assert.equal(kernel.asked.length, 1);
  });

  test('a restart empties the panel, and the kernel is asked when it is back', async () => {
    await linked();
    kernel.setStatus('restarting');
    assert.equal(model.phase, 'starting');
    assert.equal(model.services.size, 0);
    kernel.loaded = [];
    kernel.setStatus('idle');
    await settled();
    assert.equal(model.phase, 'unloaded');
  });

  test('what another comm pushes is not ours', async () => {
    await linked();
    kernel.push(everything(), 'another');
    assert.equal(model.services.size, 1);
  });

  test('unloading is seen', async () => {
    await linked();
    kernel.say('comm_close', { comm_id: 'push' });
    assert.equal(model.phase, 'unloaded');
  });

  test('a request ends with its result, which may come after its answer', async () => {
    await linked();
    const result = link.request({ do: 'call', call: 'd.c.m', arguments: {} });
    const id = kernel.requests.sent.at(-1)?.id ?? '';
    kernel.requests.answer({ id });
    kernel.push({
      results: [{ id: 'of another page', text: 'no', error: '' }]
    });
    kernel.push({ results: [{ id, text: '42', error: '' }] });
    assert.equal(await result, '42');
  });

  test('a request that fails says why', async () => {
    await linked();
    const failing = link.request({ do: 'demo' });
    const id = kernel.requests.sent.at(-1)?.id ?? '';
    kernel.push({ results: [{ id, text: '', error: 'It is not there.' }] });
    await assert.rejects(failing, /It is not there/);
    const refused = link.request({
      do: 'act',
      table: 'logs',
      name: 'level',
      value: 'LOUD'
    });
    kernel.requests.answer({
      id: kernel.requests.sent.at(-1)?.id,
      error: 'no such level'
    });
    await assert.rejects(refused, /no such level/);
  });

  test('a request that is open when the kernel restarts fails', async () => {
    await linked();
    const open = link.request({ do: 'demo' });
    kernel.setStatus('restarting');
    await assert.rejects(open, /stopped/);
    await assert.rejects(link.request({ do: 'demo' }), /not loaded/);
  });

  test('after it is disposed of, the comm is closed and nothing is heard', async () => {
    await linked();
    link.dispose();
    assert.ok(kernel.requests.isDisposed);
    assert.equal(model.phase, 'linked');
    kernel.push(everything());
    assert.equal(model.services.size, 1);
  });
});
