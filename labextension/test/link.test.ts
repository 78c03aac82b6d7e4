import * as assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { KernelLink } from '../src/link';
import { PanelModel } from '../src/model';
import { FakeKernel, flush } from './fakes';
import { completeState, service } from './samples';

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
      kernel.commIds,
      () => `id${++ids}`
    );
    await flush();
  }

  async function linked(): Promise<void> {
    kernel.pushComms = ['push'];
    await connect();
    kernel.push(completeState(service('d.calc.c1')));
    kernel.requests.reply({ id: kernel.requests.sent[0]?.id });
    await flush();
    assert.equal(model.phase, 'linked');
  }

  test('a kernel without fabric_nb gets no comm', async () => {
    await connect();
    assert.equal(model.phase, 'unloaded');
    assert.equal(kernel.comms.length, 0);
  });

  test('the state is requested from a kernel with fabric_nb', async () => {
    await linked();
    assert.ok(kernel.requests.opened);
    assert.equal(kernel.requests.sent[0]?.do, 'state');
    assert.equal(model.services.size, 1);
    assert.equal(model.connection?.domain, 'd');
  });

  test('loading is detected after the cell, even if other cells are queued', async () => {
    await connect();
    kernel.runCell('1 + 1');
    await flush();
    assert.equal(model.phase, 'unloaded');
    kernel.pushComms = ['push'];
    kernel.runCell('%load_ext fabric_nb');
    await flush();
    assert.equal(model.phase, 'linking');
    assert.deepEqual(kernel.requestsForIds, [false, false, true]);
  });

  test('a check waits for one that is pending', async () => {
    await connect();
    kernel.pushComms = ['push'];
    kernel.runCell('%load_ext fabric_nb');
    const phase = link.checkLoaded().then(() => model.phase);
    await flush();
    kernel.push(completeState());
    kernel.requests.reply({ id: kernel.requests.sent[0]?.id });
    assert.equal(await phase, 'linked');
    assert.equal(kernel.requestsForIds.length, 2);
  });

  test('the reply to a check causes no other check', async () => {
    await connect();
    kernel.send('status', { execution_state: 'idle' }, 'comm_info_request');
    await flush();
    assert.equal(kernel.requestsForIds.length, 1);
  });

  test('a restart clears the panel, and is followed by a check', async () => {
    await linked();
    kernel.setStatus('restarting');
    assert.equal(model.phase, 'starting');
    assert.equal(model.services.size, 0);
    kernel.pushComms = [];
    kernel.setStatus('idle');
    await flush();
    assert.equal(model.phase, 'unloaded');
  });

  test('messages of other comms are ignored', async () => {
    await linked();
    kernel.push(completeState(), 'another');
    assert.equal(model.services.size, 1);
  });

  test('unloading is detected', async () => {
    await linked();
    kernel.send('comm_close', { comm_id: 'push' });
    assert.equal(model.phase, 'unloaded');
  });

  test('a request resolves with its result, after its reply', async () => {
    await linked();
    const result = link.request({ do: 'call', call: 'd.c.m', arguments: {} });
    const id = kernel.requests.sent.at(-1)?.id ?? '';
    kernel.requests.reply({ id });
    kernel.push({
      results: [{ id: 'of another page', text: 'no', error: '' }]
    });
    kernel.push({ results: [{ id, text: '42', error: '' }] });
    assert.equal(await result, '42');
  });

  test('progress reaches the request that it is of', async () => {
    await linked();
    const seen: string[] = [];
    const request = { do: 'call', call: 'd.c.m', arguments: {} } as const;
    const result = link.request(request, undefined, text => seen.push(text));
    const id = kernel.requests.sent.at(-1)?.id ?? '';
    kernel.push({ progress: [{ id: 'of another page', text: 'no' }] });
    kernel.push({ progress: [{ id, text: '25 %' }] });
    kernel.push({
      progress: [{ id, text: '50 %' }],
      results: [{ id, text: '42', error: '' }]
    });
    assert.equal(await result, '42');
    assert.deepEqual(seen, ['25 %', '50 %']);
  });

  test('the state is requested again when a push was lost, with its results', async () => {
    await linked();
    const result = link.request({ do: 'call', call: 'd.c.m', arguments: {} });
    const id = kernel.requests.sent.at(-1)?.id ?? '';
    kernel.push({ number: 7, reset: true });
    kernel.push({ number: 8 });
    const before = kernel.requests.sent.length;
    kernel.push({ number: 10 });
    assert.deepEqual(
      kernel.requests.sent.slice(before).map(sent => sent.do),
      ['state']
    );
    kernel.push({
      number: 11,
      reset: true,
      results: [{ id, text: '42', error: '' }]
    });
    assert.equal(await result, '42');
    assert.equal(kernel.requests.sent.length, before + 1);
  });

  test('a failed request rejects with the error', async () => {
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
    kernel.requests.reply({
      id: kernel.requests.sent.at(-1)?.id,
      error: 'no such level'
    });
    await assert.rejects(refused, /no such level/);
  });

  test('a restart rejects pending requests', async () => {
    await linked();
    const open = link.request({ do: 'demo' });
    kernel.setStatus('restarting');
    await assert.rejects(open, /stopped/);
    await assert.rejects(link.request({ do: 'demo' }), /not loaded/);
  });

  test('disposing closes the comm and ignores further messages', async () => {
    await linked();
    link.dispose();
    assert.ok(kernel.requests.isDisposed);
    assert.equal(model.phase, 'linked');
    kernel.push(completeState());
    assert.equal(model.services.size, 1);
  });
});
