// A function that renders an invoice as an HTML page. The input is
//
//	{"number": "2026-17", "date": "2026-05-04", "due": "2026-06-03", "locale": "de-DE", "currency": "EUR", "from": "…", "to": "…",
//	 "tax": 19, "lines": [{"text": "Birdseed, 5 kg", "quantity": 3, "price": 12.49, "tax": 7}], "note": "…"}
//
// of which number, date and lines are needed. Deploy the folder with --runtime nodejs.

import { CoveyError, log } from 'covey';
import { total } from './invoice.js';
import { render } from './page.js';

export async function handler(invoice, context) {
	for (const field of ['number', 'date', 'lines']) {
		if (invoice?.[field] === undefined) {
			throw new CoveyError('InvalidInvoice', `the invoice has no ${field}`);
		}
	}
	const totals = total(invoice);
	const page = render(invoice, totals);
	log.info('rendered', { number: invoice.number, lines: totals.lines.length, bytes: Buffer.byteLength(page) });
	context.setContentType('text/html; charset=utf-8');
	context.setAttribute('gross', totals.gross.toFixed(2));
	return page;
}
