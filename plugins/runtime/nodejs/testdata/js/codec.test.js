// Messages against golden bytes, which program_test.go makes with plugins/frame.
'use strict';

const assert = require('node:assert/strict');
const test = require('node:test');
const codec = require('../runtime/codec.js');
const golden = require('./golden.json');

const reader = (name, n) => {
	const b = Buffer.from(golden[name], 'hex');
	return new codec.Reader(b, 0, n ?? b.length);
};

const written = (write) => {
	const w = new codec.Writer(1); // So that it has to grow.
	write(w);
	return w.buffer.subarray(0, w.at).toString('hex');
};

const setup = {
	app: 'default', function: 'f', version: 7, handler: 'src/app.handler', code: '/var/task', cache: '/var/cache/covey',
	memory: 256 << 20, timeout: 30000, concurrency: 16, preparing: true, env: [['A', 'ü'], ['B', '']],
};
const invoke = {
	requestId: 'r-1', attempt: 2, remaining: 1500.001, app: 'default', function: 'vögel', version: 300, node: 'node-7',
	contentType: 'application/json', trace: '00-4bf9', depth: 3, attributes: [['http.method', 'PUT'], ['http.method', 'GET']],
};
const greeting = { least: 1, greatest: 2, window: 1 << 20, maxBody: 2 ** 33, agent: 'test/1', attributes: [['lanes', '0']] };
const failure = { kind: 1, type: 'NotFound', message: 'kein Vogel 🐦', stack: 'a\nb' };

test('messages of the node are read', () => {
	assert.deepEqual(codec.readSetup(reader('setup')), setup);
	assert.deepEqual(codec.readInvoke(reader('invoke')), invoke);
	assert.deepEqual(codec.readGreeting(reader('greeting')), greeting);
	assert.deepEqual(codec.readFailure(reader('failure')), failure);
	assert.deepEqual(codec.readRefusal(reader('refusal')), { code: 'busy', message: 'all busy', retryAfter: 250 });
	assert.deepEqual(codec.readHostResult(reader('hostResult')), { contentType: 'text/plain', attributes: [['k', 'v']] });
});

test('messages for the node are written', () => {
	assert.equal(written((w) => codec.writeGreeting(w, greeting)), golden.greeting);
	assert.equal(written((w) => codec.writeFailure(w, failure)), golden.failure);
	assert.equal(written((w) => codec.writeRefusal(w, { code: 'draining', message: 'no more' })), golden.ownRefusal);
	const result = { contentType: 'text/html; charset=utf-8', status: 404, attributes: [['Größe', 'x'.repeat(100)]] };
	const stats = { run: 1.5, init: 20.0001, cpu: 0, peakMemory: 2 ** 32 };
	assert.equal(written((w) => codec.writeResult(w, result, stats)), golden.result);
	assert.equal(written((w) => codec.writeHostRequest(w, {
		requestId: 'r-1', op: 'invoke', target: 'other:live', contentType: 'text/plain', remaining: 12.25, attributes: [],
	})), golden.hostRequest);
});

test('missing fields read as zero, unknown ones are left over', () => {
	assert.deepEqual(codec.readRefusal(reader('refusal', 0)), { code: '', message: '', retryAfter: 0 });
	assert.equal(codec.readSetup(reader('setup', 0)).concurrency, 1);
	const r = new codec.Reader(Buffer.from(golden.refusal + 'ffffffff', 'hex'), 0, golden.refusal.length / 2 + 4);
	assert.equal(codec.readRefusal(r).code, 'busy');
});

test('a message that is cut off or garbled is refused, or read as something', () => {
	const readers = {
		setup: codec.readSetup, invoke: codec.readInvoke, greeting: codec.readGreeting, failure: codec.readFailure, hostResult: codec.readHostResult,
	};
	let refused = 0;
	for (const [name, read] of Object.entries(readers)) {
		const whole = Buffer.from(golden[name], 'hex');
		for (let at = 0; at < whole.length; at++) {
			for (const [b, end] of [[whole, at], [Buffer.concat([whole.subarray(0, at), Buffer.of(0xff), whole.subarray(at + 1)]), whole.length]]) {
				try {
					read(new codec.Reader(b, 0, end));
				} catch (err) {
					assert.ok(err instanceof codec.ProtocolError, err);
					refused++;
				}
			}
		}
	}
	assert.ok(refused > 100);
	assert.throws(() => new codec.Reader(Buffer.alloc(11, 0xff), 0, 11).uint(), /overflows/);
	assert.throws(() => new codec.Reader(Buffer.of(0x80), 0, 1).uint(), /cut off/);
});

test('long texts of a failure are cut between letters', () => {
	const long = 'ü'.repeat(100_000);
	const b = Buffer.from(written((w) => codec.writeFailure(w, { kind: 0, type: 'a' + long, message: long, stack: '' })), 'hex');
	const got = codec.readFailure(new codec.Reader(b, 0, b.length));
	assert.ok(Buffer.byteLength(got.type) <= 64 << 10 && Buffer.byteLength(got.message) === 64 << 10);
	assert.ok(('a' + long).startsWith(got.type));
});
