'use strict';

const assert = require('node:assert');
const test = require('node:test');

const { handler } = require('./index.js');

test('greets', async () => {
	assert.deepStrictEqual(await handler({ name: 'quail' }), { greeting: 'Hello, quail!' });
});

test('wants a name', async () => {
	await assert.rejects(handler({}), TypeError);
});
