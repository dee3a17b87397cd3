// The messages of the data plane; plugins/frame/DESIGN.md says what they mean. Numbers are LEB128, strings have their
// length in front, durations are microseconds. Messages grow at their end only: a field that the sender did not
// know reads as zero, and what the reader does not know is left over.
'use strict';

class ProtocolError extends Error {}

// Reader reads the fields of a message in order.
class Reader {
	constructor(buffer, start, end) {
		this.buffer = buffer;
		this.at = start;
		this.end = end;
	}

	uint() {
		let value = 0;
		let factor = 1;
		for (let i = 0; this.at < this.end; i++) {
			const c = this.buffer[this.at++];
			if (i === 9 && c > 1) {
				throw new ProtocolError('number overflows');
			}
			// Beyond 2^53 precision is lost, which no field of this protocol minds.
			value += (c & 0x7f) * factor;
			if (c < 0x80) {
				return value;
			}
			factor *= 128;
		}
		if (factor > 1) {
			throw new ProtocolError('number is cut off');
		}
		return 0;
	}

	string() {
		const n = this.uint();
		if (n === 0) {
			return '';
		}
		if (n > this.end - this.at) {
			throw new ProtocolError('string is cut off');
		}
		const start = this.at;
		this.at += n;
		return this.buffer.toString('utf8', start, this.at);
	}

	// millis reads a duration as milliseconds.
	millis() {
		return this.uint() / 1000;
	}

	attributes() {
		const n = this.uint();
		// A pair takes two bytes at least.
		if (n > (this.end - this.at) / 2) {
			throw new ProtocolError('attributes are cut off');
		}
		const pairs = [];
		for (let i = 0; i < n; i++) {
			pairs.push([this.string(), this.string()]);
		}
		return pairs;
	}
}

// Writer appends the fields of a message to a buffer that grows as needed.
class Writer {
	constructor(size) {
		this.buffer = Buffer.allocUnsafeSlow(size);
		this.at = 0;
	}

	reserve(n) {
		if (this.at + n > this.buffer.length) {
			const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.buffer.length, this.at + n));
			this.buffer.copy(larger, 0, 0, this.at);
			this.buffer = larger;
		}
	}

	uint(value) {
		this.reserve(10);
		value = Math.min(Math.max(Math.ceil(value), 0), Number.MAX_SAFE_INTEGER);
		while (value >= 0x80) {
			this.buffer[this.at++] = (value % 0x80) | 0x80;
			value = Math.floor(value / 0x80);
		}
		this.buffer[this.at++] = value;
	}

	string(value) {
		const n = value.length;
		if (n < 64 && this.ascii(value)) {
			return;
		}
		const bytes = Buffer.byteLength(value);
		this.uint(bytes);
		this.reserve(bytes);
		this.at += this.buffer.write(value, this.at, 'utf8');
	}

	// ascii writes a short string, which is faster than a call into the buffer's own code, unless it has other letters.
	ascii(value) {
		this.reserve(value.length + 1);
		const start = this.at;
		this.buffer[this.at++] = value.length;
		for (let i = 0; i < value.length; i++) {
			const c = value.charCodeAt(i);
			if (c > 0x7f) {
				this.at = start;
				return false;
			}
			this.buffer[this.at++] = c;
		}
		return true;
	}

	millis(value) {
		this.uint(value * 1000);
	}

	attributes(pairs) {
		this.uint(pairs.length);
		for (const [name, value] of pairs) {
			this.string(name);
			this.string(value);
		}
	}

	bytes(value) {
		this.reserve(value.length);
		this.buffer.set(value, this.at);
		this.at += value.length;
	}
}

const kinds = { function: 0, unhandled: 1, init: 2, platform: 3 };

// maxText keeps a failure inside one frame whatever a deep recursion left behind.
const maxText = 64 << 10;

// cut returns at most maxText bytes of a text, whole letters only.
function cut(text) {
	text = text.slice(0, maxText);
	return text.length * 3 <= maxText ? text : Buffer.from(text).subarray(0, maxText).toString().replace(/\ufffd$/, '');
}

function readInvoke(r) {
	const requestId = r.string();
	const attempt = r.uint();
	const remaining = r.millis();
	return {
		requestId, attempt, remaining,
		app: r.string(), function: r.string(), version: r.uint(), node: r.string(), contentType: r.string(),
		trace: r.string(), depth: r.uint(), attributes: r.attributes(),
	};
}

function writeResult(w, { contentType, status, attributes }, stats) {
	w.string(contentType);
	w.uint(status);
	w.attributes(attributes);
	w.millis(stats.run);
	w.millis(stats.init);
	w.millis(stats.cpu);
	w.uint(stats.peakMemory);
}

function readFailure(r) {
	return { kind: r.uint(), type: r.string(), message: r.string(), stack: r.string() };
}

function writeFailure(w, { kind, type, message, stack }) {
	w.uint(kind);
	w.string(cut(type));
	w.string(cut(message));
	w.string(cut(stack));
}

function readRefusal(r) {
	return { code: r.string(), message: r.string(), retryAfter: r.millis() };
}

function writeRefusal(w, { code, message }) {
	w.string(code);
	w.string(message);
	w.uint(0);
}

function readGreeting(r) {
	return {
		least: r.uint(), greatest: r.uint(), window: r.uint(), maxBody: r.uint(), agent: r.string(), attributes: r.attributes(),
	};
}

function writeGreeting(w, { least, greatest, window, maxBody, agent, attributes }) {
	w.uint(least);
	w.uint(greatest);
	w.uint(window);
	w.uint(maxBody);
	w.string(agent);
	w.attributes(attributes);
}

function writeHostRequest(w, { requestId, op, target, contentType, remaining, attributes }) {
	w.string(requestId);
	w.string(op);
	w.string(target);
	w.string(contentType);
	w.millis(remaining);
	w.attributes(attributes);
}

function readHostResult(r) {
	return { contentType: r.string(), attributes: r.attributes() };
}

function readSetup(r) {
	return {
		app: r.string(), function: r.string(), version: r.uint(), handler: r.string(), code: r.string(), cache: r.string(),
		memory: r.uint(), timeout: r.millis(), concurrency: Math.max(r.uint(), 1), preparing: r.uint() !== 0, env: r.attributes(),
	};
}

module.exports = {
	ProtocolError, Reader, Writer, kinds,
	readFailure, readGreeting, readHostResult, readInvoke, readRefusal, readSetup,
	writeFailure, writeGreeting, writeHostRequest, writeRefusal, writeResult,
};
