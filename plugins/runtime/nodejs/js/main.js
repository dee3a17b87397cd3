// A blank: a process that waits until a node tells it which function to become. plugins/frame/DESIGN.md has the protocol
// that it speaks on descriptor 3.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const { Output } = require('./output.js');
const { ProtocolError } = require('./codec.js');
const { Runtime, catchErrors, replaceConsole, shared } = require('./runtime.js');
const { provideToRequire } = require('./provide.js');
const { rehearse } = require('./rehearse.js');

const dataPlane = 3;
const readBuffer = 64 << 10;
// controlDelay keeps what go-plugin needs out of the way of a cold start, in milliseconds.
const controlDelay = 10;

function die(message, status) {
	fs.writeSync(2, `covey: ${message}\n`);
	process.exit(status);
}

function isSocket(fd) {
	try {
		return fs.fstatSync(fd).isSocket();
	} catch {
		return false;
	}
}

function main() {
	if (process.env.COVEY_PLUGIN !== '1') {
		die('this program is a runtime of Covey; a node starts it', 2);
	}
	if (!isSocket(dataPlane)) {
		die('a runtime needs the data plane on descriptor 3', 1);
	}
	// Node has made the descriptor close-on-exec.
	const socket = new net.Socket({
		fd: dataPlane,
		onread: {
			buffer: Buffer.allocUnsafeSlow(readBuffer),
			callback: (n, buffer) => {
				receive(n, buffer);
				return true;
			},
		},
	});
	const output = new Output(dataPlane, socket);
	const runtime = new Runtime(output, {
		exit: (status) => process.exit(status),
		ready: () => setTimeout(() => require('./control.js').serve(runtime), controlDelay).unref(),
	});
	const receive = (n, buffer) => {
		try {
			runtime.session.push(buffer, n);
		} catch (err) {
			if (!(err instanceof ProtocolError)) {
				throw err;
			}
			die(err.message, 1);
		}
	};
	// The node is gone, or needs this process no more, and nobody waits for what still runs.
	socket.on('close', () => process.exit(0));
	socket.on('error', () => {}); // 'close' follows.
	process.on('exit', () => output.flush());
	shared.host = runtime.host();
	runtime.hello();
	output.flush();
	replaceConsole();
	catchErrors();
	provideToRequire();
	rehearse();
}

main();
