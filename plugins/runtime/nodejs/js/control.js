// go-plugin's net/rpc protocol on a Unix socket, so that this process is an ordinary plugin to an unchanged go-plugin
// client: Ping, Quit and one plugin that invokes the function. plugins/sdk/go/control.go does the same in Go.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const codec = require('./codec.js');
const gob = require('./gob.js');
const { Call } = require('./call.js');
const { writeAll } = require('./console.js');
const { Mux } = require('./yamux.js');

// socketDirKey is where go-plugin wants its sockets, if it says so.
const socketDirKey = 'PLUGIN_UNIX_SOCKET_DIR';
// pluginName is what a go-plugin client dispenses.
const pluginName = 'function';
// quitDelay is how long a Quit waits for its own reply to leave, in milliseconds.
const quitDelay = 100;
// A client opens a control stream and two for standard output and error, which this process writes to its own.
const firstStreams = 3;

// serve listens and prints the handshake. Without a place for a socket the function still works; only go-plugin cannot
// attach.
function serve(runtime) {
	let dir;
	try {
		dir = fs.mkdtempSync(path.join(process.env[socketDirKey] || os.tmpdir(), 'covey'));
	} catch (err) {
		console.warn('covey: listen for go-plugin:', err.message);
		return;
	}
	process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
	const address = path.join(dir, 's');
	const server = net.createServer((socket) => serveConnection(socket, runtime));
	server.on('error', (err) => console.warn('covey: listen for go-plugin:', err.message));
	server.listen(address, () => writeAll(1, `1|1|unix|${address}|netrpc|\n`));
}

function serveConnection(socket, runtime) {
	let count = 0;
	new Mux(socket, (stream) => {
		count++;
		if (count === 1) {
			serveRPC(stream, (method, argument) => controlMethod(runtime, method, argument));
		} else if (count > firstStreams) {
			servePlugin(stream, (method, argument) => pluginMethod(runtime, method, argument));
		}
	});
}

// servePlugin serves a stream of a dispensed plugin. The client sends the id that Dispense gave and waits for it to come
// back.
function servePlugin(stream, method) {
	let id = Buffer.alloc(0);
	stream.ondata = (chunk) => {
		id = Buffer.concat([id, chunk]);
		if (id.length >= 4) {
			stream.write(id.subarray(0, 4));
			serveRPC(stream, method, id.subarray(4));
		}
	};
}

// serveRPC answers the net/rpc calls on one stream, one after the other.
function serveRPC(stream, method, rest) {
	const input = new gob.Reader();
	const output = new gob.Writer();
	let header;
	let busy = false;
	const work = async () => {
		for (let value; (value = input.next());) {
			if (!header) {
				header = gob.request(value);
				continue;
			}
			const { method: name, seq } = header;
			header = undefined;
			let reply;
			let failure = '';
			try {
				reply = await method(name, value);
			} catch (err) {
				failure = err.message || 'error'; // A value follows an error too; the client skips it.
			}
			stream.write(Buffer.concat([output.response(name, seq, failure), output.reply(reply)]));
		}
	};
	stream.ondata = (chunk) => {
		input.push(chunk);
		if (!busy) {
			busy = true;
			work().then(() => (busy = false), () => stream.end());
		}
	};
	if (rest?.length > 0) {
		stream.take(rest);
	}
}

function controlMethod(runtime, method, argument) {
	switch (method) {
	case 'Control.Ping':
		gob.argument(argument, 'bool');
		return undefined;
	case 'Control.Quit':
		gob.argument(argument, 'bool');
		setTimeout(() => runtime.drain(), quitDelay);
		return undefined;
	case 'Dispenser.Dispense': {
		const name = gob.argument(argument, 'string');
		if (name !== pluginName) {
			throw new Error(`unknown plugin type: ${name}`);
		}
		return 1;
	}
	}
	throw new Error(`rpc: can't find method ${method}`);
}

function pluginMethod(runtime, method, argument) {
	if (method !== 'Plugin.Invoke') {
		throw new Error(`rpc: can't find method ${method}`);
	}
	return plainCall(runtime, gob.argument(argument, 'bytes'));
}

// plainCall runs a call that came without the data plane and what it carries. A streamed output is collected.
function plainCall(runtime, payload) {
	return new Promise((resolve, reject) => {
		const parts = [];
		const output = {
			message: (type, id, head, body) => resolve(Buffer.from(body)),
			stream: () => {},
			chunk: (id, body) => parts.push(body),
			failure: (type, id, write) => {
				const w = new codec.Writer(256);
				write(w);
				const failure = codec.readFailure(new codec.Reader(w.buffer, 0, w.at));
				reject(new Error(`${failure.type}: ${failure.message}`));
			},
		};
		const session = { output, peerWindow: Infinity, done: () => resolve(Buffer.concat(parts)) };
		const head = codec.readInvoke(new codec.Reader(Buffer.alloc(0), 0, 0));
		new Call({ handler: runtime.handler, maxOutput: Infinity, session, stats: () => ({}) }, 0, head, payload).run();
	});
}

module.exports = { serve };
