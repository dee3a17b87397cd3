// A function for rehearse.js to play.
import { prop } from 'rehearsal';
import { CoveyError } from '../covey/index.mjs';

export const handler = async (event, context) => {
	if (event.n === 0) {
		throw new CoveyError('Rehearsal', 'nobody hears this');
	}
	return { aborted: context.signal.aborted, text: event.name, prop };
};
