// What all copies of the SDK in one process have in common: a function may bring its own copy, bundled or
// installed, and must still meet the runtime. The number in the key changes when the shape below does.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');

const key = Symbol.for('covey.sdk.1');

if (!globalThis[key]) {
	const shared = {
		// storage finds the context of the call that some code runs in.
		storage: new AsyncLocalStorage(),
		// host is set by the runtime and undefined in a unit test:
		//   invoke(context, name, body, { contentType, signal }) → Promise<{ body, contentType }>
		//   write(line), which takes a line of the log
		host: undefined,
	};
	Object.defineProperty(globalThis, key, { value: shared });
}

module.exports = globalThis[key];
