// gob and yamux: golden bytes from Go's encoding/gob, and what no client sends. What is written is tested in Go,
// as is the dialogue with a real go-plugin client.
'use strict';

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const test = require('node:test');
const gob = require('../runtime/gob.js');
const { Mux } = require('../runtime/yamux.js');
const golden = require('./golden.json');

test('requests of net/rpc are read however they are cut', () => {
	const bytes = Buffer.from(golden.gobRequests, 'hex');
	for (let step = 1; step < 40; step++) {
		const r = new gob.Reader();
		const got = [];
		for (let at = 0; at < bytes.length; at += step) {
			r.push(bytes.subarray(at, at + step));
			for (let v; (v = r.next());) {
				got.push(v);
			}
		}
		assert.deepEqual(gob.request(got[0]), { method: 'Control.Ping', seq: 0 });
		assert.equal(gob.argument(got[1], 'bool'), true);
		assert.deepEqual(gob.request(got[2]), { method: 'Dispenser.Dispense', seq: 300 });
		assert.equal(gob.argument(got[3], 'string'), 'function');
		assert.deepEqual(gob.request(got[4]), { method: 'Plugin.Invoke', seq: 2 ** 40 });
		assert.deepEqual(gob.argument(got[5], 'bytes'), Buffer.alloc(1000, 0x78));
		assert.equal(got.length, 6);
	}
});

test('malformed values are refused', () => {
	const value = (...bytes) => {
		const r = new gob.Reader();
		r.push(Buffer.of(bytes.length, ...bytes));
		return r.next();
	};
	assert.throws(() => gob.request(value(12, 0, 3)), /header of type 6/);
	assert.throws(() => gob.request(value(0xff, 0x80, 4, 1)), /3 fields|4 fields/);
	assert.throws(() => gob.request(value(0xff, 0x80, 1, 9, 65)), /bytes of 9/);
	assert.throws(() => gob.argument(value(12, 0, 1, 65), 'bool'), /argument of type 6 for bool/);
	assert.throws(() => value(0xf0, 0), /number of 16 bytes/);
	const r = new gob.Reader();
	r.push(Buffer.of(0xf8, 1, 1, 1, 1, 1, 1, 1, 1));
	assert.throws(() => r.next(), /value of/);
});

test('a connection that does not speak yamux is closed', () => {
	for (const bytes of [[1, 0], [0, 4], [0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 0, 0]]) {
		const socket = Object.assign(new EventEmitter(), { destroyed: false, write() {}, destroy() { this.destroyed = true; } });
		new Mux(socket, () => {});
		socket.emit('data', Buffer.concat([Buffer.from(bytes), Buffer.alloc(12)]).subarray(0, 12));
		assert.ok(socket.destroyed, String(bytes));
	}
});
