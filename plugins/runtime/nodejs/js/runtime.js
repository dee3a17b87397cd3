// The process as an instance: it waits for SETUP, becomes the function, serves its calls and ends.
'use strict';

const v8 = require('node:v8');
const Module = require('node:module');
const shared = require('./covey/shared.js');
const codec = require('./codec.js');
const { Call, runningCall } = require('./call.js');
const { replace, writeLog } = require('./console.js');
const { failureOf } = require('./failure.js');
const { flags, types } = require('./frames.js');
const { load } = require('./load.js');
const { noteImport, provideToImport, provideToRequire } = require('./provide.js');
const { Session, maxBody } = require('./session.js');

const { ProtocolError, kinds } = codec;

const version = 1;
const window = 1 << 20;
// smallMemory is the memory up to which an instance collects garbage early, in bytes.
const smallMemory = 512 << 20;

class Runtime {
	#setup; // what the function is, once that is known
	#held = []; // calls that wait for READY
	#ready = false;
	#usedCPU = 0; // microseconds already reported
	#initTime = 0; // milliseconds, taken by the first answer
	#stage;

	// stage is where it plays: exit(status) ends the process, and ready() is called once it is ready for calls.
	constructor(output, stage) {
		this.session = new Session(output, this);
		this.handler = undefined;
		this.maxOutput = Infinity;
		this.#stage = stage;
	}

	hello() {
		this.session.output.message(types.hello, 0, (w) => codec.writeGreeting(w, {
			least: version, greatest: version, window, maxBody, agent: 'covey-runtime-nodejs/1',
			// Node cannot receive descriptors.
			attributes: [['lanes', '0']],
		}), null);
	}

	// control handles what belongs to no call.
	control(type, flag, head, body) {
		switch (type) {
		case types.hello:
			if ((flag & flags.lane) !== 0) {
				throw new ProtocolError('a lane, which this side does not take');
			}
			this.#greet(codec.readGreeting(head));
			break;
		case types.setup:
			if (this.#setup !== undefined) {
				throw new ProtocolError('SETUP out of order');
			}
			this.#setup = codec.readSetup(body);
			this.become(this.#setup);
			break;
		case types.drain:
			this.drain();
			break;
		}
	}

	#greet(hello) {
		if (hello.least > version || hello.greatest < version) {
			throw new ProtocolError(`${hello.agent} speaks versions ${hello.least} to ${hello.greatest}, this side ${version}`);
		}
		this.session.peerWindow = hello.window;
		if (hello.maxBody > 0) {
			this.maxOutput = hello.maxBody;
		}
	}

	// become makes the process the function.
	async become(setup) {
		const began = performance.now();
		const usage = process.resourceUsage();
		this.#usedCPU = usage.userCPUTime + usage.systemCPUTime; // of the blank, which no call pays for
		try {
			for (const [name, value] of setup.env) {
				process.env[name] = value;
			}
			if (process.env.NODE_PATH !== undefined) {
				provideToRequire(process.env.NODE_PATH);
			}
			provideToImport(setup.code, setup.cache);
			limitMemory(setup.memory);
			if (setup.cache !== '') {
				Module.enableCompileCache?.(setup.cache);
			}
			if (setup.preparing && setup.cache !== '') {
				noteImport(setup.code, setup.cache);
			}
			this.handler = await load(setup.code, setup.handler);
		} catch (err) {
			this.#initFailed(err);
			return;
		}
		if (setup.preparing) {
			// Node writes the cache when the process ends, if not before.
			Module.flushCompileCache?.();
			this.#stage.exit(0);
			return;
		}
		this.#initTime = performance.now() - began;
		this.ready();
	}

	ready() {
		this.session.output.message(types.ready, 0, null, null);
		this.#ready = true;
		for (const call of this.#held.splice(0)) {
			call.run();
		}
		this.#stage.ready();
	}

	#initFailed(err) {
		const failure = failureOf(err, kinds.init);
		this.session.output.failure(types.error, 0, (w) => codec.writeFailure(w, failure));
		this.session.output.drained(() => this.#stage.exit(1));
	}

	// call takes a call of the node's.
	call(id, head, body) {
		const call = new Call(this, id, head, body);
		this.session.served.set(id, call);
		if (this.#ready) {
			call.run();
		} else {
			this.#held.push(call);
		}
	}

	// drain refuses further calls and ends the process when the running ones have ended.
	drain() {
		this.session.draining = true;
		this.idle();
	}

	// idle is called when a call has ended.
	idle() {
		if (this.session.draining && this.session.served.size === 0) {
			this.session.output.drained(() => this.#stage.exit(0));
		}
	}

	// stats measures a call that began then. The processor time of calls that ran at once is reported by the first to end,
	// so that the sum over all calls is what the process used.
	stats(began) {
		const usage = process.resourceUsage();
		const used = usage.userCPUTime + usage.systemCPUTime;
		const stats = {
			run: performance.now() - began, init: this.#initTime,
			cpu: (used - this.#usedCPU) / 1000, peakMemory: usage.maxRSS * 1024,
		};
		this.#usedCPU = used;
		this.#initTime = 0;
		return stats;
	}

	// host gives the SDK its way to the node.
	host() {
		return {
			write: writeLog,
			invoke: (context, name, body, { contentType, signal }) => {
				const left = context?.getRemainingTimeInMillis() ?? Infinity;
				return this.session.hostCall({
					requestId: context?.requestId ?? '', op: 'invoke', target: name, contentType, attributes: [],
					remaining: left === Infinity ? 0 : Math.max(left, 0.001),
				}, body, signal);
			},
		};
	}
}

// limitMemory says how far V8's heap may grow between two collections, which is all that can be set while it runs: the
// limit of the heap cannot. A blank starts with what suits a small instance (see Command in nodejs.go); in a large one
// fewer collections are worth more than the memory.
function limitMemory(memory) {
	if (memory === 0 || memory > smallMemory) {
		v8.setFlagsFromString(`--heap-growing-percent=${memory === 0 || memory > 2 * smallMemory ? 0 : 100}`);
	}
}

// catchErrors gives an error that nobody caught to the call whose code threw it. Outside of calls it ends the process, as
// Node does, unless the function has a handler of its own.
function catchErrors() {
	process.on('uncaughtException', (err) => uncaught(err, 'uncaughtException'));
	process.on('unhandledRejection', (reason) => uncaught(reason, 'unhandledRejection'));
}

function uncaught(err, event) {
	const call = runningCall();
	if (call !== undefined) {
		call.fail(err, kinds.unhandled);
	} else if (process.listenerCount(event) === 1) {
		console.error(err);
		process.exit(1);
	}
}

module.exports = { Runtime, catchErrors, replaceConsole: () => replace(console), shared };
