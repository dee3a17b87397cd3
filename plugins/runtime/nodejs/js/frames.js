// Frames: sixteen bytes of header and a payload. plugins/frame/DESIGN.md has the table.
'use strict';

const { ProtocolError } = require('./codec.js');

const headerSize = 16;
const maxPayload = 1 << 20;

const types = {
	hello: 1, ready: 2, invoke: 3, chunk: 4, credit: 5, cancel: 6, result: 7, error: 8, refused: 9, hostCall: 10, hostReply: 11,
	drain: 12, setup: 13,
};
const lastType = 13;

const flags = { more: 1, stream: 2, end: 4, lane: 8, answer: 16 };

function writeHeader(buffer, at, length, type, flag, head, id) {
	buffer.writeUInt32LE(length, at);
	buffer[at + 4] = type;
	buffer[at + 5] = flag;
	buffer.writeUInt16LE(head, at + 6);
	buffer.writeUInt32LE(id % 0x100000000, at + 8);
	buffer.writeUInt32LE(Math.floor(id / 0x100000000), at + 12);
}

// FrameReader takes frames off a byte stream. It calls
//
//	handler.sink(header), which may return { buffer, at } to have the payload copied there and handler.filled(header)
//	called after it, and otherwise
//	handler.frame(header, buffer, start, end, owned) with the payload, which is overwritten afterwards unless owned.
//
// The header is the same object each time. What these throw, push throws.
class FrameReader {
	constructor(handler) {
		this.handler = handler;
		this.header = { length: 0, type: 0, flags: 0, head: 0, id: 0 };
		this.partial = null; // a frame that has not arrived whole, from its header on
		this.have = 0;
		this.need = 0;
		this.sink = null;
		this.sinkLeft = 0;
	}

	push(buffer, n) {
		let at = 0;
		while (at < n) {
			if (this.sinkLeft > 0) {
				at = this.fill(buffer, at, n);
			} else if (this.partial !== null) {
				at = this.complete(buffer, at, n);
			} else if (n - at < headerSize) {
				at = this.begin(headerSize, buffer, at, n);
			} else {
				this.parse(buffer, at);
				const size = headerSize + this.header.length;
				if (this.divert()) {
					at += headerSize;
				} else if (n - at < size) {
					at = this.begin(size, buffer, at, n);
				} else {
					this.handler.frame(this.header, buffer, at + headerSize, at + size, false);
					at += size;
				}
			}
		}
	}

	// fill copies into the sink.
	fill(buffer, at, n) {
		const size = Math.min(this.sinkLeft, n - at);
		buffer.copy(this.sink.buffer, this.sink.at, at, at + size);
		this.sink.at += size;
		this.sinkLeft -= size;
		if (this.sinkLeft === 0) {
			this.sink = null;
			this.handler.filled(this.header);
		}
		return at + size;
	}

	// begin keeps what has arrived of a frame, or of its header.
	begin(need, buffer, at, n) {
		this.partial = Buffer.allocUnsafeSlow(need);
		this.have = buffer.copy(this.partial, 0, at, n);
		this.need = need;
		return n;
	}

	// complete adds to what begin kept.
	complete(buffer, at, n) {
		const size = Math.min(this.need - this.have, n - at);
		buffer.copy(this.partial, this.have, at, at + size);
		this.have += size;
		if (this.have < this.need) {
			return at + size;
		}
		const partial = this.partial;
		this.partial = null;
		if (this.need === headerSize) {
			this.parse(partial, 0);
			if (this.divert()) {
				return at + size;
			}
			if (this.header.length > 0) {
				this.begin(headerSize + this.header.length, partial, 0, headerSize);
				return at + size;
			}
		}
		this.handler.frame(this.header, partial, headerSize, partial.length, true);
		return at + size;
	}

	// divert asks for a sink.
	divert() {
		const sink = this.header.length > 0 ? this.handler.sink(this.header) : null;
		if (!sink) {
			return false;
		}
		this.sink = sink;
		this.sinkLeft = this.header.length;
		return true;
	}

	parse(buffer, at) {
		const h = this.header;
		h.length = buffer.readUInt32LE(at);
		h.type = buffer[at + 4];
		h.flags = buffer[at + 5];
		h.head = buffer.readUInt16LE(at + 6);
		h.id = buffer.readUInt32LE(at + 8) + buffer.readUInt32LE(at + 12) * 0x100000000;
		if (h.length > maxPayload) {
			throw new ProtocolError(`payload of ${h.length} bytes`);
		}
		if (h.type === 0 || h.type > lastType) {
			throw new ProtocolError(`frame of type ${h.type}`);
		}
		if (h.head > h.length) {
			throw new ProtocolError(`head of ${h.head} bytes in a payload of ${h.length}`);
		}
	}
}

module.exports = { FrameReader, flags, headerSize, maxPayload, types, writeHeader };
