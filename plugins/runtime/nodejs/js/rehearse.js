// What a blank does while it waits: it plays the start and some calls of functions that answer nobody, so that the code
// which a real start waits for is loaded and compiled. Nothing of it is left but that.
'use strict';

const path = require('node:path');
const { formatWithOptions } = require('node:util');
const { format } = require('./covey/log.js');
const { Writer } = require('./codec.js');
const { types, writeHeader } = require('./frames.js');
const { Output } = require('./output.js');
const { Runtime } = require('./runtime.js');

// What functions, and the packages that they bring, use most of Node. An ES module needs a facade of each, which is made
// here too.
const common = [
	'assert', 'buffer', 'child_process', 'crypto', 'events', 'fs', 'fs/promises', 'http', 'https', 'module', 'os', 'path', 'process',
	'querystring', 'stream', 'stream/promises', 'string_decoder', 'timers/promises', 'url', 'util', 'zlib',
];

const calls = 20;

async function rehearse() {
	for (const name of common) {
		await import(`node:${name}`);
	}
	format('info', formatWithOptions({}, 'rehearsal %s', 1), { n: 1 }, 'rehearsal');
	for (const handler of ['script.handler', 'module.handler']) {
		await play(handler);
	}
}

function play(handler) {
	return new Promise((resolve) => {
		const runtime = new Runtime(new Output(-1, null), {
			exit: resolve, // A rehearsal that fails costs time later, and nothing else.
			ready: () => {
				for (let n = 0; n < calls; n++) {
					push(runtime, types.invoke, n + 1, writeInvoke, Buffer.from(JSON.stringify({ n, name: 'quail' })));
				}
				runtime.drain();
			},
		});
		push(runtime, types.setup, 0, null, writeSetup(handler));
	});
}

function push(runtime, type, id, writeHead, body) {
	const w = new Writer(4096);
	w.at = 16;
	writeHead?.(w);
	const head = w.at - 16;
	w.bytes(body);
	writeHeader(w.buffer, 0, w.at - 16, type, 0, head, id);
	runtime.session.push(w.buffer, w.at);
}

function writeSetup(handler) {
	const w = new Writer(4096);
	['rehearsal', 'rehearsal'].forEach((text) => w.string(text));
	w.uint(1);
	[handler, path.join(__dirname, 'rehearsal'), ''].forEach((text) => w.string(text));
	[0, 0, 1, 0].forEach((n) => w.uint(n)); // memory, timeout, concurrency, preparing
	w.attributes([]);
	return w.buffer.subarray(0, w.at);
}

function writeInvoke(w) {
	w.string('rehearsal');
	w.uint(1);
	w.millis(1000);
	['rehearsal', 'rehearsal'].forEach((text) => w.string(text));
	w.uint(1);
	['node', 'application/json', ''].forEach((text) => w.string(text));
	w.uint(0);
	w.attributes([['name', 'value']]);
}

module.exports = { rehearse };
