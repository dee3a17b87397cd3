// console inside a function: what it prints becomes lines of the log with their level, filed under their call.
'use strict';

const fs = require('node:fs');
const { formatWithOptions, inspect } = require('node:util');
const shared = require('./covey/shared.js');
const { write } = require('./covey/log.js');

const stderr = 2;
// patience is how long a line waits for a reader of a full pipe, in milliseconds.
const patience = 5000;

const plain = { colors: false };

function replace(console) {
	const print = (level) => (...args) => {
		write(level, formatWithOptions(plain, ...args), undefined, shared.storage.getStore()?.requestId ?? '');
	};
	// The other methods of console end in these.
	console.log = console.info = print('info');
	console.debug = print('debug');
	console.warn = print('warn');
	console.error = print('error');
	console.dir = (value, options) => console.log('%s', inspect(value, { customInspect: false, ...options }));
}

// writeAll writes text to a descriptor before it returns, so that a process that ends abruptly has said everything. A
// pipe that process.stderr has made non-blocking may be full.
function writeAll(fd, text) {
	const bytes = Buffer.from(text);
	const until = Date.now() + patience;
	for (let at = 0; at < bytes.length;) {
		try {
			at += fs.writeSync(fd, bytes, at);
		} catch (err) {
			if (err.code !== 'EAGAIN' || Date.now() > until) {
				return; // Nobody reads it.
			}
			Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
		}
	}
}

function writeLog(line) {
	writeAll(stderr, line);
}

module.exports = { replace, writeAll, writeLog };
