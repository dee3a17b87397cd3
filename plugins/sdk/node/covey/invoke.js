// Calls of other functions, and the bodies of calls.
'use strict';

const shared = require('./shared.js');

// encode turns a value into a body and the content type that says how: bytes and strings go as they are,
// everything else as JSON.
function encode(value) {
	if (typeof value === 'string') {
		return { body: Buffer.from(value), contentType: 'text/plain; charset=utf-8' };
	}
	if (value instanceof Uint8Array) {
		return { body: value, contentType: 'application/octet-stream' };
	}
	if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
		return { body: new Uint8Array(value), contentType: 'application/octet-stream' };
	}
	return { body: Buffer.from(JSON.stringify(value) ?? 'null'), contentType: 'application/json' };
}

const json = /^application\/(?:[^;]+\+)?json\s*(?:;|$)/i;
const text = /^text\//i;
// Clients say this of any body: curl of what -d gives it, others when they do not know.
const vague = /^application\/(?:octet-stream|x-www-form-urlencoded)\s*(?:;|$)/i;

// decode is the value of a body: JSON if the content type says so or there is none, a string if it is text, else
// the bytes. Of a vague type it is JSON if it looks and reads like it. It throws SyntaxError on broken JSON.
function decode(body, contentType) {
	if (contentType === '' || contentType === 'application/json' || json.test(contentType)) {
		return JSON.parse(body.toString());
	}
	if (text.test(contentType)) {
		return body.toString();
	}
	if (vague.test(contentType)) {
		if (body[0] === 0x7b || body[0] === 0x5b) {
			try {
				return JSON.parse(body.toString());
			} catch {
				// It only looked like JSON.
			}
		}
		if (contentType.length > 24) {
			return body.toString(); // A form.
		}
	}
	return body;
}

const nothing = { body: new Uint8Array(0), contentType: 'application/json' };

async function invoke(name, payload, options = {}) {
	const context = options.context ?? shared.storage.getStore();
	if (Object.hasOwn(context ?? {}, 'invoke')) {
		return context.invoke(name, payload); // The stub of a test.
	}
	if (!shared.host) {
		throw new Error(`invoke ${name}: there is no node; give testContext an invoke to stand in`);
	}
	const { body, contentType } = payload === undefined ? nothing : encode(payload);
	const answer = await shared.host.invoke(context, String(name), body, {
		contentType: options.contentType ?? contentType,
		signal: options.signal ?? context?.signal,
	});
	return options.raw ? answer.body : decodeAnswer(answer);
}

// decodeAnswer is lenient where decode is not: what another function calls JSON, or nothing at all, may be anything.
function decodeAnswer({ body, contentType }) {
	if (contentType === '' || body.length === 0) {
		return body;
	}
	try {
		return decode(body, contentType);
	} catch {
		return body;
	}
}

module.exports = { decode, encode, invoke };
