// Errors that cross the process boundary with their type.
'use strict';

const brand = Symbol.for('covey.error');

class CoveyError extends Error {
	constructor(type, message, options = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.type = String(type);
		this.platform = options.platform === true;
		this.unhandled = options.unhandled === true;
		this.notStarted = options.notStarted === true;
		this.remoteStack = options.remoteStack ?? '';
	}

	get name() {
		return this.type;
	}

	get [brand]() {
		return true;
	}

	// An error of another copy of the SDK is one of this class too.
	static [Symbol.hasInstance](value) {
		return typeof value === 'object' && value !== null && value[brand] === true;
	}
}

module.exports = { CoveyError };
