// What a handler knows of its call, and what it says beside its answer.
'use strict';

const shared = require('./shared.js');
const { invoke } = require('./invoke.js');
const { bind } = require('./log.js');

// longest is the longest timer that Node has; a deadline beyond it never comes.
const longest = 2 ** 31 - 1;

class Context {
	#abort;
	#log;
	#timer;

	constructor(fields = {}) {
		this.requestId = fields.requestId ?? '';
		this.attempt = fields.attempt ?? 1;
		this.app = fields.app ?? '';
		this.function = fields.function ?? '';
		this.version = fields.version ?? 0;
		this.node = fields.node ?? '';
		this.deadline = fields.deadline;
		this.contentType = fields.contentType ?? '';
		this.trace = fields.trace ?? '';
		this.depth = fields.depth ?? 0;
		this.attributes = fields.attributes ?? {};
		this.payload = fields.payload;
		this.response = { contentType: '', status: 0, attributes: [] };
	}

	getRemainingTimeInMillis() {
		return this.deadline === undefined ? Infinity : Math.max(0, this.deadline.getTime() - Date.now());
	}

	// signal is made when somebody asks, because most handlers do not.
	get signal() {
		if (this.#abort === undefined) {
			this.#abort = new AbortController();
			const left = this.getRemainingTimeInMillis();
			if (left < longest) {
				this.#timer = setTimeout(() => this.cancel(new DOMException('the deadline has passed', 'TimeoutError')), left).unref();
			}
		}
		return this.#abort.signal;
	}

	cancel(reason = new DOMException('nobody waits for this call any more', 'AbortError')) {
		clearTimeout(this.#timer);
		this.signal; // A handler that asks later must find it aborted.
		this.#abort.abort(reason);
	}

	// end stops the timer of a call that is over.
	end() {
		clearTimeout(this.#timer);
	}

	get log() {
		return (this.#log ??= bind(this.requestId));
	}

	invoke(name, payload, options) {
		return invoke(name, payload, { ...options, context: this });
	}

	setContentType(contentType) {
		this.response.contentType = String(contentType);
	}

	setStatus(status) {
		if (!Number.isInteger(status) || status < 100 || status > 999) {
			throw new RangeError(`not an HTTP status: ${status}`);
		}
		this.response.status = status;
	}

	setAttribute(name, value) {
		this.response.attributes.push([String(name), String(value)]);
	}
}

function current() {
	return shared.storage.getStore();
}

function withContext(context, fn, ...args) {
	return shared.storage.run(context, fn, ...args);
}

function testContext({ invoke: stub, ...fields } = {}) {
	const context = new Context({ requestId: 'test', ...fields });
	if (stub) {
		context.invoke = async (name, payload) => stub(name, payload);
	}
	return context;
}

module.exports = { Context, current, testContext, withContext };
