// A function for rehearse.js to play.
'use strict';

const covey = require('covey');
const { prop } = require('rehearsal');

exports.handler = async (event, context) => {
	const left = context.getRemainingTimeInMillis();
	return { log: typeof context.log.info, current: covey.current() === context, left, prop, ...event };
};
