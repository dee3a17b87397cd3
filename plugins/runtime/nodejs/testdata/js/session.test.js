// Frames and calls, fed with what a node sends and with what none does.
'use strict';

const assert = require('node:assert/strict');
const test = require('node:test');
const { ProtocolError, Reader, Writer, readRefusal } = require('../runtime/codec.js');
const { FrameReader, flags, headerSize, types, writeHeader } = require('../runtime/frames.js');
const { Session } = require('../runtime/session.js');
const golden = require('./golden.json');

function frame(type, flag, id, head, body) {
	const b = Buffer.alloc(headerSize + head.length + body.length);
	writeHeader(b, 0, head.length + body.length, type, flag, head.length, id);
	b.set(head, headerSize);
	b.set(body, headerSize + head.length);
	return b;
}

function size(n) {
	const b = Buffer.alloc(8);
	b.writeBigUInt64LE(BigInt(n));
	return b;
}

const none = Buffer.alloc(0);
const head = Buffer.from(golden.invoke, 'hex');

// session returns one whose calls, answers and control frames are kept.
function session() {
	const kept = { calls: [], sent: [], control: [] };
	const output = {
		message: (type, id) => kept.sent.push([type, id]),
		failure: (type, id, write) => {
			const w = new Writer(64);
			write(w);
			kept.sent.push([type, id, readRefusal(new Reader(w.buffer, 0, w.at)).code]);
		},
	};
	const s = new Session(output, {
		call: (id, h, body) => {
			kept.calls.push([id, h.requestId, body.toString()]);
			s.served.set(id, { cancel: () => kept.calls.push([id, 'cancelled']), grant: (n) => kept.calls.push([id, 'credit', n]) });
		},
		control: (type) => kept.control.push(type),
	});
	return { s, kept };
}

const large = [
	frame(types.invoke, flags.more, 2, head, size(10)), frame(types.invoke, 0, 3, head, Buffer.from('small')),
	frame(types.chunk, 0, 2, none, Buffer.from('01234')), frame(types.chunk, flags.end, 2, none, Buffer.from('56789')),
];

test('a stream of frames is read however it is cut', () => {
	const bytes = Buffer.concat([
		frame(types.hello, 0, 0, Buffer.from('hi'), none), frame(types.invoke, 0, 1, head, Buffer.from('body')), ...large,
		frame(types.credit, 0, 1, none, Buffer.of(1, 2, 0, 0)), frame(types.cancel, 0, 3, none, none), frame(types.drain, 0, 0, none, none),
	]);
	for (let step = 1; step <= bytes.length; step++) {
		const { s, kept } = session();
		const buffer = Buffer.alloc(step); // It is overwritten, as the socket's is.
		for (let at = 0; at < bytes.length; at += step) {
			s.push(buffer, bytes.copy(buffer, 0, at, at + step));
		}
		assert.deepEqual(kept, {
			calls: [[1, 'r-1', 'body'], [3, 'r-1', 'small'], [2, 'r-1', '0123456789'], [1, 'credit', 513], [3, 'cancelled']],
			sent: [], control: [types.hello, types.drain],
		}, `in steps of ${step}`);
	}
});

test('ids beyond 32 bits survive', () => {
	const { s, kept } = session();
	const b = frame(types.invoke, 0, 2 ** 40 + 5, head, none);
	s.push(b, b.length);
	assert.equal(kept.calls[0][0], 2 ** 40 + 5);
});

test('what no honest node sends is refused', () => {
	const cases = {
		'id zero': [frame(types.invoke, 0, 0, head, none)],
		'id twice': [large[0], frame(types.invoke, 0, 2, head, none)],
		'no length': [frame(types.invoke, flags.more, 1, head, Buffer.from('xx'))],
		'length zero': [frame(types.invoke, flags.more, 1, head, size(0))],
		'chunk beyond the length': [large[0], frame(types.chunk, 0, 2, none, Buffer.from('0123456789a'))],
		'end before the length': [large[0], frame(types.chunk, flags.end, 2, none, Buffer.from('01'))],
		'length without end': [large[0], frame(types.chunk, 0, 2, none, Buffer.from('0123456789'))],
		'chunk with a head': [large[0], frame(types.chunk, 0, 2, Buffer.from('0'), Buffer.from('1'))],
		'credit without amount': [frame(types.credit, 0, 1, none, none)],
		'head of garbage': [frame(types.invoke, 0, 1, Buffer.alloc(20, 0xff), none)],
		'unknown type': [frame(14, 0, 1, none, none)],
		'type zero': [frame(0, 0, 1, none, none)],
		'payload too long': [Buffer.from([1, 0, 16, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])],
		'head too long': [Buffer.from([1, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0])],
	};
	for (const [name, frames] of Object.entries(cases)) {
		const b = Buffer.concat(frames);
		assert.throws(() => session().s.push(b, b.length), ProtocolError, name);
	}
});

test('an answer that no node gives ends a host call\'s session', async () => {
	const answers = {
		stream: [frame(types.hostReply, flags.stream, 1, none, none)],
		twice: [frame(types.hostReply, flags.more, 1, none, size(5)), frame(types.hostReply, 0, 1, none, none)],
		'chunk first': [frame(types.chunk, flags.answer | flags.end, 1, none, Buffer.from('x'))],
	};
	for (const [name, frames] of Object.entries(answers)) {
		const { s } = session();
		void s.hostCall({ requestId: '', op: 'invoke', target: 'f', contentType: '', remaining: 0, attributes: [] }, none);
		const b = Buffer.concat(frames);
		assert.throws(() => s.push(b, b.length), ProtocolError, name);
	}
});

test('late frames are skipped', () => {
	const { s, kept } = session();
	const b = Buffer.concat([
		frame(types.hostReply, 0, 90, none, Buffer.from('xx')), frame(types.hostReply, flags.more, 91, none, size(5)),
		frame(types.chunk, flags.answer | flags.end, 91, none, Buffer.from('xxxxx')), frame(types.chunk, flags.end, 92, none, Buffer.from('xxx')),
		frame(types.cancel, 0, 93, none, none), frame(types.credit, 0, 94, none, Buffer.from('xxxx')), frame(types.error, 0, 0, none, none),
		frame(types.invoke, 0, 1, head, Buffer.from('mine')),
	]);
	s.push(b, b.length);
	assert.deepEqual(kept.calls, [[1, 'r-1', 'mine']]);
});

test('calls are refused while draining, and one whose body is on its way is forgotten when cancelled', () => {
	const { s, kept } = session();
	const b = Buffer.concat([large[0], frame(types.cancel, 0, 2, none, none), large[2], large[3]]);
	s.push(b, b.length);
	assert.equal(s.served.size, 0);
	s.draining = true;
	s.push(large[1], large[1].length);
	assert.deepEqual(kept, { calls: [], sent: [[types.refused, 3, 'draining']], control: [] });
});

test('random bytes end in a protocol error or in nothing', () => {
	let seed = 1;
	const random = () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
	const seeds = [...large, frame(types.hostReply, flags.more, 1, none, size(5)), frame(types.chunk, flags.answer, 1, none, Buffer.from('xx'))];
	for (let round = 0; round < 3000; round++) {
		const { s } = session();
		s.hostCall({ requestId: '', op: 'invoke', target: 'f', contentType: '', remaining: 0, attributes: [] }, none).catch(() => {});
		const b = Buffer.concat(Array.from({ length: 6 }, () => seeds[Math.floor(random() * seeds.length)]));
		for (let n = random() * 4; n > 1; n--) {
			b[Math.floor(random() * b.length)] = random() * 256;
		}
		// A length that would ask for a gigabyte is a node's right, but not this test's.
		try {
			for (let at = 0; at < b.length; at += 7) {
				s.push(b.subarray(at, at + 7), Math.min(7, b.length - at));
			}
		} catch (err) {
			assert.ok(err instanceof ProtocolError || err instanceof RangeError, err);
		}
	}
});

test('the frame reader counts nothing twice', () => {
	const seen = [];
	const r = new FrameReader({ sink: () => null, filled: () => {}, frame: (h, b, start, end, owned) => seen.push([h.type, end - start, owned]) });
	const b = Buffer.concat([frame(types.drain, 0, 0, none, none), frame(types.hello, 0, 0, none, Buffer.alloc(1 << 20))]);
	r.push(b.subarray(0, 20), 20);
	r.push(b.subarray(20), b.length - 20);
	assert.deepEqual(seen, [[types.drain, 0, false], [types.hello, 1 << 20, true]]);
});
