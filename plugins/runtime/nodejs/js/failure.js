// What the node learns of an error.
'use strict';

const { CoveyError } = require('./covey/errors.js');
const { kinds } = require('./codec.js');

// failureOf describes what a handler threw (kind unhandled), gave to its callback (kind function) or what was thrown
// while the function was loaded (kind init). A CoveyError is one that the function meant, wherever it comes from.
function failureOf(err, kind) {
	try {
		return describe(err, kind);
	} catch {
		// A getter of the error threw.
		return { kind, type: 'Error', message: 'an error that cannot be read', stack: '' };
	}
}

function describe(err, kind) {
	if (err instanceof CoveyError) {
		const meant = kind === kinds.unhandled && !err.unhandled ? kinds.function : kind;
		const stack = err.unhandled ? err.remoteStack : kind === kinds.init ? trim(err.stack) : '';
		return { kind: meant, type: err.type, message: err.message, stack };
	}
	if (typeof err !== 'object' || err === null) {
		return { kind, type: typeof err, message: String(err), stack: kind === kinds.function ? '' : `thrown: ${String(err)}` };
	}
	const stack = kind === kinds.function ? '' : trim(withCause(err)) || `thrown: ${String(err)}`;
	return { kind, type: typeOf(err), message: trim(err.message ?? err), stack };
}

// typeOf is the most telling name that an error has: its name, its class, or its code.
function typeOf(err) {
	for (const name of [err.name, err.constructor?.name, err.code]) {
		if (typeof name === 'string' && name !== '' && name !== 'Error' && name !== 'Object') {
			return name;
		}
	}
	return 'Error';
}

function withCause(err) {
	let text = String(err.stack ?? '');
	for (let depth = 0; err.cause instanceof Error && depth < 8; depth++) {
		err = err.cause;
		text += `\ncaused by: ${err.stack}`;
	}
	return text;
}

// trim leaves out the runtime and Node's loader, which tell the function's author nothing, from stacks of calls and of
// require.
function trim(text) {
	return String(text ?? '').split('\n').filter((line) => !(/^(?:\s+at|-) /.test(line) && hidden(line))).join('\n');
}

function hidden(line) {
	return line.includes(__dirname) || /node:(?:internal\/|async_hooks|diagnostics_channel)/.test(line);
}

module.exports = { failureOf };
