// The calls on the data plane, both ways: what arrives is sorted to its call, and host calls find their answers.
'use strict';

const { CoveyError } = require('./covey/errors.js');
const codec = require('./codec.js');
const { FrameReader, flags, headerSize, types } = require('./frames.js');

const { ProtocolError, Reader, kinds } = codec;

// maxBody is more than any node sends; the node's own limit is what counts.
const maxBody = 1 << 30;
// maxServed bounds the calls being served at once. A node sends no more than the function's concurrency.
const maxServed = 1024;

// Assembly is a body that arrives in chunks.
class Assembly {
	constructor(buffer, start, end) {
		if (end - start !== 8) {
			throw new ProtocolError('body in chunks without a length');
		}
		this.size = Number(buffer.readBigUInt64LE(start));
		if (this.size === 0) {
			throw new ProtocolError('body of 0 bytes in chunks');
		}
		this.buffer = null;
		this.at = 0; // filled up to here
	}

	allocate() {
		this.buffer = Buffer.allocUnsafeSlow(this.size);
	}

	// admit checks the next chunk.
	admit(header) {
		const free = this.size - this.at;
		if (header.head !== 0 || header.length === 0 || header.length > free) {
			throw new ProtocolError(`chunk of ${header.length} bytes where ${free} are missing`);
		}
		if ((header.length === free) !== ((header.flags & flags.end) !== 0)) {
			throw new ProtocolError(`body ends at ${this.at + header.length} of ${this.size} bytes`);
		}
		return this;
	}
}

// Session gets bytes by push and gives
//
//	node.call(id, head, body) for a whole INVOKE; the call must be ended with done(id),
//	node.control(type, head, body) for what belongs to no call, as Readers.
class Session {
	#reader = new FrameReader(this);
	#lastId = 0;
	#host = new Map(); // host calls that wait for an answer
	#arriving = new Map(); // calls whose body is not complete

	constructor(output, node) {
		this.output = output;
		this.node = node;
		this.served = new Map(); // calls from their first frame to their last answer
		this.draining = false;
		this.peerWindow = 1 << 20;
	}

	push(buffer, n) {
		this.#reader.push(buffer, n);
	}

	// sink tells the frame reader where the chunk of a known body goes.
	sink(header) {
		if (header.type !== types.chunk) {
			return null;
		}
		const calls = (header.flags & flags.answer) !== 0 ? this.#host : this.#arriving;
		const assembly = calls.get(header.id)?.assembly;
		if (assembly !== undefined) {
			return assembly.admit(header);
		}
		if ((header.flags & flags.answer) !== 0 && this.#host.has(header.id)) {
			throw new ProtocolError('chunk before its answer');
		}
		return null;
	}

	// filled is called when a chunk is in its place.
	filled(header) {
		if ((header.flags & flags.end) === 0) {
			return;
		}
		if ((header.flags & flags.answer) !== 0) {
			const call = this.#take(header.id);
			call.resolve({ ...call.head, body: call.assembly.buffer });
			return;
		}
		const call = this.#arriving.get(header.id);
		this.#arriving.delete(header.id);
		this.node.call(header.id, call.head, call.assembly.buffer);
	}

	frame(header, buffer, start, end, owned) {
		const body = start + header.head;
		switch (header.type) {
		case types.invoke:
			this.#invoke(header, buffer, start, body, end, owned);
			break;
		case types.credit:
			if (end - start !== 4) {
				throw new ProtocolError(`CREDIT of ${end - start} bytes`);
			}
			this.served.get(header.id)?.grant(buffer.readUInt32LE(start));
			break;
		case types.cancel:
			this.#cancel(header.id);
			break;
		case types.hostReply:
		case types.error:
		case types.refused:
			if (header.id !== 0) {
				this.#answer(header, buffer, start, body, end);
			}
			break;
		case types.hello:
		case types.drain:
		case types.setup:
			this.node.control(header.type, header.flags, new Reader(buffer, start, body), new Reader(buffer, body, end));
			break;
		default:
			// A chunk of a call that is over, or what the other side has no reason to send.
		}
	}

	#invoke(header, buffer, start, body, end, owned) {
		const id = header.id;
		if (id === 0 || this.served.has(id)) {
			throw new ProtocolError(`call id ${id} is in use`);
		}
		const assembly = (header.flags & flags.more) !== 0 ? new Assembly(buffer, body, end) : undefined;
		if (this.draining) {
			this.refuse(id, 'draining', 'no further calls are taken');
			return;
		}
		if (this.served.size >= maxServed) {
			this.refuse(id, 'busy', `${this.served.size} calls are running`);
			return;
		}
		if (assembly !== undefined && assembly.size > maxBody) {
			this.refuse(id, 'too_large', `body of ${assembly.size} bytes, ${maxBody} allowed`);
			return;
		}
		const head = codec.readInvoke(new Reader(buffer, start, body));
		this.served.set(id, undefined);
		if (assembly !== undefined) {
			assembly.allocate();
			this.#arriving.set(id, { head, assembly });
			return;
		}
		this.node.call(id, head, owned ? buffer.subarray(body, end) : copy(buffer, body, end));
	}

	#cancel(id) {
		if (this.#arriving.delete(id)) {
			this.done(id);
		} else {
			this.served.get(id)?.cancel();
		}
	}

	refuse(id, code, message) {
		this.output.failure(types.refused, id, (w) => codec.writeRefusal(w, { code, message }));
	}

	// done forgets a call that was answered.
	done(id) {
		this.served.delete(id);
		this.node.idle?.();
	}

	// hostCall asks the node for something. It resolves to { contentType, attributes, body }.
	hostCall(request, body, signal) {
		if (signal?.aborted) {
			return Promise.reject(signal.reason);
		}
		const id = ++this.#lastId;
		return new Promise((resolve, reject) => {
			const abort = () => {
				if (this.#take(id)) {
					this.output.message(types.cancel, id, null, null);
					reject(signal.reason);
				}
			};
			this.#host.set(id, { resolve, reject, abort, signal, head: undefined, assembly: undefined });
			signal?.addEventListener('abort', abort, { once: true });
			try {
				this.output.message(types.hostCall, id, (w) => codec.writeHostRequest(w, request), body);
			} catch (err) {
				this.#take(id);
				reject(err);
			}
		});
	}

	// take removes a host call and returns it.
	#take(id) {
		const call = this.#host.get(id);
		if (call !== undefined) {
			this.#host.delete(id);
			call.signal?.removeEventListener('abort', call.abort);
		}
		return call;
	}

	#answer(header, buffer, start, body, end) {
		const call = this.#host.get(header.id);
		if (call === undefined) {
			return; // Given up.
		}
		if (call.assembly !== undefined || (header.flags & flags.stream) !== 0) {
			throw new ProtocolError('an answer that no node gives');
		}
		if ((header.flags & flags.more) !== 0) {
			call.head = codec.readHostResult(new Reader(buffer, start, body));
			call.assembly = new Assembly(buffer, body, end);
			if (call.assembly.size > maxBody) {
				throw new ProtocolError(`answer of ${call.assembly.size} bytes`);
			}
			call.assembly.allocate();
			return;
		}
		this.#take(header.id);
		if (header.type === types.hostReply) {
			call.resolve({ ...codec.readHostResult(new Reader(buffer, start, body)), body: copy(buffer, body, end) });
			return;
		}
		call.reject(errorOf(header.type, new Reader(buffer, body, end)));
	}
}

// errorOf is what the maker of a host call gets.
function errorOf(type, r) {
	if (type === types.refused) {
		const { code, message } = codec.readRefusal(r);
		return new CoveyError('Refused', `${code}: ${message}`, { notStarted: true });
	}
	const f = codec.readFailure(r);
	return new CoveyError(f.type, f.message, {
		platform: f.kind === kinds.platform, unhandled: f.kind === kinds.unhandled, remoteStack: f.stack,
	});
}

// copy takes bytes out of a buffer that is about to be overwritten.
function copy(buffer, start, end) {
	const b = Buffer.allocUnsafe(end - start);
	buffer.copy(b, 0, start, end);
	return b;
}

module.exports = { Session, headerSize, maxBody };
