// The logger: one line of hclog's JSON for each message, which the node files under its call.
'use strict';

const { inspect } = require('node:util');
const shared = require('./shared.js');

// maxLine keeps a line below the length at which nodes cut lines in two.
const maxLine = 15 * 1024;

// plain replaces what JSON cannot say, or says badly.
function plain(key, value) {
	if (typeof value === 'bigint') {
		return String(value);
	}
	if (value instanceof Error) {
		return value.stack ?? String(value);
	}
	return value;
}

function stringify(line) {
	try {
		return JSON.stringify(line, plain);
	} catch {
		const safe = Object.fromEntries(Object.entries(line).map(([k, v]) => [k, typeof v === 'string' ? v : inspect(v)]));
		return JSON.stringify(safe);
	}
}

// format returns the lines of a message: more than one if it is too long for one.
function format(level, message, fields, requestId, now = new Date()) {
	const line = {
		...fields,
		'@timestamp': now.toISOString().replace('Z', '000Z'),
		'@level': level,
		'@message': message,
		request_id: requestId === '' ? undefined : requestId,
	};
	const text = stringify(line) + '\n';
	if (text.length * 3 <= maxLine || Buffer.byteLength(text) <= maxLine) {
		return text;
	}
	if (fields && Object.keys(fields).length > 0) {
		const rest = inspect(fields, { maxStringLength: 1000, maxArrayLength: 20, depth: 2 }).slice(0, 4000);
		return format(level, `${message} ${rest}`, undefined, requestId, now);
	}
	// A pair of surrogates must stay together.
	let middle = message.length >> 1;
	middle += (message.charCodeAt(middle) & 0xfc00) === 0xdc00 ? 1 : 0;
	return format(level, message.slice(0, middle), undefined, requestId, now) +
		format(level, message.slice(middle), undefined, requestId, now);
}

function write(level, message, fields, requestId) {
	message = typeof message === 'string' ? message : plain('', message) ?? '';
	message = typeof message === 'string' ? message : inspect(message);
	if (shared.host) {
		shared.host.write(format(level, message, fields, requestId));
		return;
	}
	// In a unit test a person reads it.
	const extra = fields && Object.keys(fields).length > 0 ? ' ' + stringify(fields) : '';
	process.stderr.write(`${level}: ${message}${extra}\n`);
}

const levels = ['trace', 'debug', 'info', 'warn', 'error'];

// bind returns a logger for one request, or, without an id, for whichever call is current.
function bind(id) {
	const logger = {};
	for (const level of levels) {
		logger[level] = (message, fields) => write(level, message, fields, id ?? shared.storage.getStore()?.requestId ?? '');
	}
	return logger;
}

module.exports = { bind, format, log: bind(), write };
