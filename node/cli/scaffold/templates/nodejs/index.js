'use strict';

// A function for Covey. The event is JSON, and so is what is returned; what is printed goes to the log.
exports.handler = async (event, context) => {
	if (!event.name) {
		throw new TypeError('the event has no name');
	}
	console.log('greeting', event.name);
	return { greeting: `Hello, ${event.name}!` };
};
