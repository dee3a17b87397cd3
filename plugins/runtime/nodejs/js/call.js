// One call: its handler, its answer, its stream.
'use strict';

const { Context } = require('./covey/context.js');
const { CoveyError } = require('./covey/errors.js');
const { decode, encode } = require('./covey/invoke.js');
const shared = require('./covey/shared.js');
const codec = require('./codec.js');
const { failureOf } = require('./failure.js');
const { flags, maxPayload, types } = require('./frames.js');

const { kinds } = codec;

// calls finds the call of a context.
const calls = new WeakMap();

// runningCall is the call that the running code belongs to, if it is not over.
function runningCall() {
	const context = shared.storage.getStore();
	const call = context && calls.get(context);
	return call && !call.over ? call : undefined;
}

function attributesOf(pairs) {
	const attributes = {};
	for (const [name, value] of pairs) {
		if (!Object.hasOwn(attributes, name)) {
			// Not an assignment, because a name may be "__proto__".
			Object.defineProperty(attributes, name, { value, enumerable: true, configurable: true, writable: true });
		}
	}
	return attributes;
}

class Call {
	// sender is a Session, or what stands in for one; runtime has what all calls share.
	constructor(runtime, id, head, body) {
		this.runtime = runtime;
		this.id = id;
		this.over = false;
		this.began = 0;
		this.context = new Context({
			...head,
			deadline: head.remaining > 0 ? new Date(Date.now() + head.remaining) : undefined,
			attributes: attributesOf(head.attributes),
			payload: body,
		});
		this.streaming = false;
		this.credit = 0;
		this.wake = null; // of the stream that waits for credit
		this.cancelled = false;
		calls.set(this.context, this);
	}

	run() {
		this.began = performance.now();
		shared.storage.run(this.context, runHandler, this);
	}

	cancel() {
		if (this.over || this.cancelled) {
			return;
		}
		this.cancelled = true;
		this.context.cancel();
		this.wake?.();
	}

	grant(n) {
		this.credit += n;
		if (this.credit > 2 ** 32) {
			throw new codec.ProtocolError('credit overflows');
		}
		this.wake?.();
	}

	// answer ends the call with the handler's value.
	answer(value) {
		if (this.over || this.streaming) {
			return;
		}
		if (isStream(value)) {
			this.streaming = true;
			this.stream(value);
			return;
		}
		try {
			this.sendAnswer(value);
		} catch (err) {
			this.fail(err, kinds.unhandled);
		}
	}

	sendAnswer(value) {
		let body;
		let contentType;
		if (typeof value === 'string') {
			[body, contentType] = [value, 'text/plain; charset=utf-8'];
		} else if (typeof value === 'object' && value !== null && (value instanceof Uint8Array || value instanceof ArrayBuffer)) {
			({ body, contentType } = encode(value));
		} else {
			[body, contentType] = [JSON.stringify(value) ?? 'null', 'application/json'];
		}
		const most = this.runtime.maxOutput;
		if (body.length * 3 > most && Buffer.byteLength(body) > most) {
			throw new CoveyError('ResponseTooLarge', `output of ${Buffer.byteLength(body)} bytes, ${most} allowed; stream it instead`);
		}
		const { response } = this.context;
		const stats = this.runtime.stats(this.began);
		this.runtime.session.output.message(types.result, this.id, (w) => {
			codec.writeResult(w, response.contentType === '' ? { ...response, contentType } : response, stats);
		}, body);
		this.end();
	}

	// fail ends the call with an error.
	fail(err, kind) {
		if (this.over) {
			return;
		}
		const failure = failureOf(err, kind);
		this.runtime.session.output.failure(types.error, this.id, (w) => codec.writeFailure(w, failure));
		this.end();
	}

	end() {
		this.over = true;
		this.context.end();
		this.wake?.();
		this.runtime.session.done(this.id);
	}

	// stream sends what an iterable yields, piece by piece, no faster than it is read.
	async stream(iterable) {
		let begun = false;
		try {
			for await (const piece of iterable) {
				const bytes = bytesOf(piece);
				if (!begun) {
					begun = true;
					this.begin(typeof piece === 'string' ? 'text/plain; charset=utf-8' : 'application/octet-stream');
				}
				const wait = this.send(bytes);
				if (wait !== undefined) {
					await wait;
				}
				if (this.over) {
					return;
				}
			}
			if (!begun) {
				this.streaming = false;
				this.answer(Buffer.alloc(0));
				return;
			}
			if (!this.over) {
				this.runtime.session.output.chunk(this.id, Buffer.alloc(0), flags.end);
				this.end();
			}
		} catch (err) {
			this.fail(err, kinds.unhandled);
		}
	}

	begin(contentType) {
		const { response } = this.context;
		this.credit += this.runtime.session.peerWindow;
		const none = { run: 0, init: 0, cpu: 0, peakMemory: 0 };
		this.runtime.session.output.stream(types.result, this.id, (w) => {
			codec.writeResult(w, response.contentType === '' ? { ...response, contentType } : response, none);
		});
	}

	// send sends a piece of a stream. It returns a promise only if it has to wait for credit.
	send(bytes) {
		if (bytes.length <= this.credit && bytes.length <= maxPayload && !this.cancelled && !this.over) {
			this.credit -= bytes.length;
			this.runtime.session.output.chunk(this.id, bytes, 0);
			return undefined;
		}
		return this.sendSlowly(bytes);
	}

	async sendSlowly(bytes) {
		for (let at = 0; at < bytes.length;) {
			while (this.credit <= 0 && !this.cancelled && !this.over) {
				await new Promise((resolve) => (this.wake = resolve));
				this.wake = null;
			}
			if (this.over) {
				return;
			}
			if (this.cancelled) {
				throw new CoveyError('Cancelled', 'nobody reads the stream any more');
			}
			const n = Math.min(this.credit, bytes.length - at, maxPayload);
			this.credit -= n;
			this.runtime.session.output.chunk(this.id, bytes.subarray(at, at + n), 0);
			at += n;
		}
	}
}

// runHandler runs in the call's async context.
function runHandler(call) {
	const { context, runtime: { handler } } = call;
	let event;
	try {
		event = context.payload.length === 0 && (context.contentType === '' || context.contentType.startsWith('application/json'))
			? {} : decode(context.payload, context.contentType);
	} catch (err) {
		call.fail(new CoveyError('InvalidInput', err.message), kinds.function);
		return;
	}
	try {
		if (handler.length >= 3) {
			runCallback(call, handler, event);
			return;
		}
		const value = handler(event, context);
		if (typeof value?.then === 'function') {
			value.then((v) => call.answer(v), (err) => call.fail(err, kinds.unhandled));
		} else {
			call.answer(value);
		}
	} catch (err) {
		call.fail(err, kinds.unhandled);
	}
}

// runCallback runs a handler that takes a callback, and may return a promise all the same.
function runCallback(call, handler, event) {
	const value = handler(event, call.context, (err, answer) => {
		if (err !== undefined && err !== null) {
			call.fail(err, kinds.function);
		} else {
			call.answer(answer);
		}
	});
	if (typeof value?.then === 'function') {
		value.then((v) => v !== undefined && call.answer(v), (err) => call.fail(err, kinds.unhandled));
	}
}

// isStream reports whether a value is to be sent piece by piece: an async iterable, or a generator that runs.
function isStream(value) {
	if (typeof value !== 'object' || value === null) {
		return false;
	}
	return typeof value[Symbol.asyncIterator] === 'function' ||
		(typeof value.next === 'function' && typeof value[Symbol.iterator] === 'function');
}

function bytesOf(piece) {
	if (typeof piece === 'string') {
		return Buffer.from(piece);
	}
	if (piece instanceof Uint8Array) {
		return piece;
	}
	throw new TypeError(`a stream consists of strings and bytes, not of ${piece === null ? 'null' : typeof piece}`);
}

module.exports = { Call, isStream, runningCall };
