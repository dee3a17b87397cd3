// The accepting side of yamux, which carries several streams over one connection.
'use strict';

const headerSize = 12;
const types = { data: 0, window: 1, ping: 2, goAway: 3 };
const flags = { syn: 1, ack: 2, fin: 4, rst: 8 };

// startWindow is what either side may send on a stream before it is told to go on.
const startWindow = 256 << 10;
// maxStreams is more than any client of ours opens.
const maxStreams = 256;

// Stream is one stream; ondata gets what arrives on it.
class Stream {
	constructor(mux, id) {
		this.mux = mux;
		this.id = id;
		this.window = startWindow;
		this.waiting = []; // what the window did not let out
		this.ended = false;
		this.early = []; // what came before ondata was set
		this.take = undefined;
	}

	set ondata(take) {
		this.take = take;
		this.early.splice(0).forEach(take);
	}

	receive(chunk) {
		if (this.take) {
			this.take(chunk);
		} else {
			this.early.push(chunk);
		}
	}

	write(bytes) {
		this.waiting.push(bytes);
		this.pump();
	}

	pump() {
		while (this.waiting.length > 0 && this.window > 0) {
			const first = this.waiting[0];
			const n = Math.min(first.length, this.window);
			this.mux.send(types.data, 0, this.id, n, first.subarray(0, n));
			this.window -= n;
			if (n < first.length) {
				this.waiting[0] = first.subarray(n);
			} else {
				this.waiting.shift();
			}
		}
		if (this.ended && this.waiting.length === 0) {
			this.mux.send(types.window, flags.fin, this.id, 0);
			this.mux.streams.delete(this.id);
		}
	}

	end() {
		if (!this.ended) {
			this.ended = true;
			this.pump();
		}
	}
}

// Mux accepts the streams of one client; onstream gets each.
class Mux {
	#buffer = Buffer.alloc(0);
	#socket;

	constructor(socket, onstream) {
		this.#socket = socket;
		this.streams = new Map();
		this.onstream = onstream;
		socket.on('data', (chunk) => {
			try {
				this.#receive(chunk);
			} catch {
				socket.destroy(); // No yamux.
			}
		});
		socket.on('error', () => {});
	}

	send(type, flag, id, length, body) {
		const header = Buffer.alloc(headerSize);
		header[1] = type;
		header.writeUInt16BE(flag, 2);
		header.writeUInt32BE(id, 4);
		header.writeUInt32BE(length, 8);
		this.#socket.write(body ? Buffer.concat([header, body]) : header);
	}

	#receive(chunk) {
		this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
		while (this.#buffer.length >= headerSize) {
			const header = this.#buffer;
			const [version, type] = header;
			const flag = header.readUInt16BE(2);
			const id = header.readUInt32BE(4);
			const length = header.readUInt32BE(8);
			const body = type === types.data ? length : 0;
			if (version !== 0 || type > types.goAway || body > startWindow) {
				throw new Error('yamux: bad header');
			}
			if (header.length < headerSize + body) {
				return;
			}
			this.#buffer = header.subarray(headerSize + body);
			this.#frame(type, flag, id, length, header.subarray(headerSize, headerSize + body));
		}
	}

	#frame(type, flag, id, length, body) {
		if (type === types.ping) {
			if ((flag & flags.syn) !== 0) {
				this.send(types.ping, flags.ack, 0, length);
			}
			return;
		}
		if (type === types.goAway) {
			return;
		}
		if ((flag & flags.syn) !== 0) {
			this.#accept(id);
		}
		const stream = this.streams.get(id);
		if (!stream) {
			return;
		}
		if (type === types.window) {
			stream.window += length;
			stream.pump();
		} else if (length > 0) {
			// What arrives is taken at once, so there is always room for as much again.
			this.send(types.window, 0, id, length);
			stream.receive(body);
		}
		if ((flag & flags.rst) !== 0) {
			this.streams.delete(id);
		} else if ((flag & flags.fin) !== 0) {
			stream.end();
		}
	}

	#accept(id) {
		if (this.streams.has(id) || this.streams.size >= maxStreams) {
			throw new Error('yamux: stream out of order');
		}
		const stream = new Stream(this, id);
		this.streams.set(id, stream);
		this.send(types.window, flags.ack, id, 0);
		this.onstream(stream);
	}
}

module.exports = { Mux };
