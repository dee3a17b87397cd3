// What goes out: frames are collected and leave together, in one system call, as soon as the code that made
// them has nothing more to say.
'use strict';

const fs = require('node:fs');
const { Writer } = require('./codec.js');
const { flags, headerSize, maxPayload, types, writeHeader } = require('./frames.js');

// bufferSize is how much is collected before it leaves early.
const bufferSize = 64 << 10;
// smallBody is the largest body that is copied to leave with what was collected.
const smallBody = 16 << 10;
// maxHead is the largest head; it shares the first frame with the body.
const maxHead = 0xffff;

class Output {
	#w = new Writer(bufferSize);
	#scheduled = false;
	#fd;
	#socket;

	// Without a socket everything is thrown away.
	constructor(fd, socket) {
		this.#fd = fd;
		this.#socket = socket;
	}

	// message sends head (a function that writes it, or null) and body (bytes, a string, or null).
	message(type, id, head, body) {
		if (typeof body === 'string' && body.length * 3 > smallBody) {
			body = Buffer.from(body);
		}
		if (body !== null && typeof body !== 'string' && body.length > smallBody) {
			this.#large(type, id, head, body);
			return;
		}
		const [start, headEnd] = this.#begin(head);
		const w = this.#w;
		if (typeof body === 'string') {
			w.reserve(body.length * 3);
			w.at += w.buffer.write(body, w.at, 'utf8');
		} else if (body !== null) {
			w.bytes(body);
		}
		this.#end(start, headEnd, type, 0, id);
	}

	// stream opens an answer of unknown length.
	stream(type, id, head) {
		const [start, headEnd] = this.#begin(head);
		this.#end(start, headEnd, type, flags.stream, id);
	}

	// chunk sends at most maxPayload bytes of a stream.
	chunk(id, body, flag) {
		if (body.length > smallBody) {
			this.#piece(id, body, flag | flags.answer);
			return;
		}
		const [start, headEnd] = this.#begin(null);
		this.#w.bytes(body);
		this.#end(start, headEnd, types.chunk, flag | flags.answer, id);
	}

	// failure sends an ERROR or REFUSED, whose body is written by write.
	failure(type, id, write) {
		const [start, headEnd] = this.#begin(null);
		write(this.#w);
		this.#end(start, headEnd, type, 0, id);
	}

	#begin(head) {
		const w = this.#w;
		if (w.at > bufferSize / 2) {
			this.flush();
		}
		w.reserve(headerSize);
		const start = w.at;
		w.at += headerSize;
		if (head !== null) {
			head(w);
			if (w.at - start - headerSize > maxHead) {
				w.at = start;
				throw new RangeError('content type and attributes are more than 64 KiB');
			}
		}
		return [start, w.at];
	}

	#end(start, headEnd, type, flag, id) {
		const w = this.#w;
		writeHeader(w.buffer, start, w.at - start - headerSize, type, flag, headEnd - start - headerSize, id);
		if (!this.#scheduled) {
			this.#scheduled = true;
			// After the microtasks, so that calls which end together are answered together.
			process.nextTick(this.#tick);
		}
	}

	#tick = () => {
		this.#scheduled = false;
		this.flush();
	};

	// large sends a body in chunks, without copying it.
	#large(type, id, head, body) {
		const [start, headEnd] = this.#begin(head);
		const w = this.#w;
		w.reserve(8);
		w.buffer.writeBigUInt64LE(BigInt(body.length), w.at);
		w.at += 8;
		this.#end(start, headEnd, type, flags.more, id);
		const answer = type === types.hostCall ? 0 : flags.answer;
		for (let at = 0; at < body.length; at += maxPayload) {
			const end = Math.min(at + maxPayload, body.length);
			this.#piece(id, body.subarray(at, end), answer | (end === body.length ? flags.end : 0));
		}
	}

	#piece(id, body, flag) {
		const [start, headEnd] = this.#begin(null);
		this.#end(start, headEnd, types.chunk, flag, id);
		this.#w.buffer.writeUInt32LE(body.length, start);
		if (this.#socket === null) {
			return;
		}
		this.#socket.cork();
		this.flush();
		this.#socket.write(body);
		this.#socket.uncork();
	}

	// flush sends what was collected.
	flush() {
		const w = this.#w;
		const n = w.at;
		if (n === 0) {
			return;
		}
		w.at = 0;
		if (this.#socket === null || this.#socket.destroyed) {
			return;
		}
		let sent = 0;
		if (this.#socket.writableLength === 0) {
			sent = this.#try(w.buffer, n);
		}
		if (sent < n) {
			this.#socket.write(Buffer.from(w.buffer.subarray(sent, n)));
		}
	}

	// try writes without waiting and returns how many bytes went.
	#try(buffer, n) {
		try {
			return fs.writeSync(this.#fd, buffer, 0, n);
		} catch (err) {
			if (err.code === 'EAGAIN') {
				return 0;
			}
			// The node is gone. The socket finds that out too, and the process ends with it.
			this.#socket.destroy();
			return n;
		}
	}

	// drained calls done when everything has left.
	drained(done) {
		this.flush();
		if (this.#socket === null || this.#socket.destroyed || this.#socket.writableLength === 0) {
			done();
			return;
		}
		this.#socket.write('', done);
	}
}

module.exports = { Output };
