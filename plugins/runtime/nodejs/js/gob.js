// As much of Go's encoding/gob as go-plugin's net/rpc needs: a handful of fixed types. plugins/sdk/go/gob.go does the same
// in Go and says more.
'use strict';

// gob's numbers for its basic types, and the ones that this side gives its own.
const ids = { bool: 1, uint: 3, bytes: 5, string: 6, response: 64, empty: 65 };

// The definitions of the two types of this side: net/rpc's Response, and a struct without fields.
const definitions = {
	[ids.response]: Buffer.from('9\x7f\x03\x01\x01\bResponse\x01\xff\x80\x00\x01\x03\x01\rServiceMethod\x01\f\x00' +
		'\x01\x03Seq\x01\x06\x00\x01\x05Error\x01\f\x00\x00\x00', 'latin1'),
	[ids.empty]: Buffer.from('\n\xff\x81\x03\x01\x02\xff\x82\x00\x00\x00', 'latin1'),
};

// maxValue bounds one value; the data plane is there for more.
const maxValue = 64 << 20;

// uint encodes a number: one byte below 128, else its length, negated, and its bytes.
function uint(v) {
	if (v < 128) {
		return Buffer.of(v);
	}
	const bytes = [];
	for (; v > 0; v = Math.floor(v / 256)) {
		bytes.unshift(v % 256);
	}
	return Buffer.of(256 - bytes.length, ...bytes);
}

function bytes(v) {
	const b = Buffer.from(v);
	return Buffer.concat([uint(b.length), b]);
}

// Writer encodes the values of one stream.
class Writer {
	#defined = new Set();

	// message returns a value with its length in front, after the definition of its type if that is new.
	#message(id, value) {
		const parts = [];
		if (definitions[id] && !this.#defined.has(id)) {
			this.#defined.add(id);
			parts.push(definitions[id]);
		}
		// The value of a type that is no struct follows a zero.
		const head = id < ids.response ? [uint(id * 2), Buffer.of(0)] : [uint(id * 2)];
		const body = Buffer.concat([...head, value]);
		return Buffer.concat([...parts, uint(body.length), body]);
	}

	// response returns net/rpc's header. Fields that are zero are left out, and each names its distance to the last.
	response(method, seq, failure) {
		const parts = [];
		let last = -1;
		const field = (n, value) => {
			parts.push(Buffer.of(n - last), value);
			last = n;
		};
		if (method !== '') {
			field(0, bytes(method));
		}
		if (seq !== 0) {
			field(1, uint(seq));
		}
		if (failure !== '') {
			field(2, bytes(failure));
		}
		return this.#message(ids.response, Buffer.concat([...parts, Buffer.of(0)]));
	}

	// reply returns a method's result: a number, bytes, or undefined for a struct without fields.
	reply(v) {
		if (v === undefined) {
			return this.#message(ids.empty, Buffer.of(0));
		}
		return typeof v === 'number' ? this.#message(ids.uint, uint(v)) : this.#message(ids.bytes, bytes(v));
	}
}

// Value is the rest of a value that is being read.
class Value {
	constructor(buffer) {
		this.buffer = buffer;
		this.at = 0;
	}

	byte() {
		if (this.at >= this.buffer.length) {
			throw new Error('gob: value is cut off');
		}
		return this.buffer[this.at++];
	}

	uint() {
		const first = this.byte();
		if (first < 128) {
			return first;
		}
		if (first < 248) {
			throw new Error(`gob: number of ${256 - first} bytes`);
		}
		let v = 0;
		for (let n = 256 - first; n > 0; n--) {
			v = v * 256 + this.byte();
		}
		return v;
	}

	bytes() {
		const n = this.uint();
		if (n > this.buffer.length - this.at) {
			throw new Error(`gob: ${this.buffer.length - this.at} bytes of ${n}`);
		}
		this.at += n;
		return this.buffer.subarray(this.at - n, this.at);
	}
}

// Reader decodes the values of one stream.
class Reader {
	#buffer = Buffer.alloc(0);

	push(chunk) {
		this.#buffer = Buffer.concat([this.#buffer, chunk]);
	}

	// next returns the next value as { id, value }, or undefined if it has not arrived whole. Definitions are skipped: what the
	// types of the other side are called and how they are numbered makes no difference.
	next() {
		for (;;) {
			const size = this.#size();
			if (size === undefined) {
				return undefined;
			}
			const value = new Value(this.#buffer.subarray(size.at, size.at + size.n));
			this.#buffer = this.#buffer.subarray(size.at + size.n);
			const id = value.uint();
			if (id % 2 === 0) { // A negative number announces a definition.
				return { id: id / 2, value };
			}
		}
	}

	// size finds the length of the next value, if all of it is there.
	#size() {
		if (this.#buffer.length === 0) {
			return undefined;
		}
		const digits = this.#buffer[0] < 128 ? 0 : 256 - this.#buffer[0];
		if (this.#buffer.length < 1 + digits && digits <= 8) {
			return undefined;
		}
		const head = new Value(this.#buffer);
		const n = head.uint();
		if (n > maxValue) {
			throw new Error(`gob: value of ${n} bytes`);
		}
		return this.#buffer.length - head.at < n ? undefined : { at: head.at, n };
	}
}

// request decodes net/rpc's header.
function request({ id, value }) {
	if (id < ids.response) {
		throw new Error(`gob: a header of type ${id}`);
	}
	const header = { method: '', seq: 0 };
	for (let field = -1; ;) {
		const delta = value.uint();
		if (delta === 0) {
			return header;
		}
		field += Math.min(delta, 3);
		if (field === 0) {
			header.method = value.bytes().toString();
		} else if (field === 1) {
			header.seq = value.uint();
		} else {
			throw new Error(`gob: a header with ${field + 1} fields`);
		}
	}
}

// argument decodes a value of type "bool", "string" or "bytes".
function argument({ id, value }, type) {
	if (id !== ids[type] || value.uint() !== 0) {
		throw new Error(`gob: argument of type ${id} for ${type}`);
	}
	switch (type) {
	case 'bool':
		return value.uint() !== 0;
	case 'string':
		return value.bytes().toString();
	default:
		return value.bytes();
	}
}

module.exports = { Reader, Writer, argument, request };
