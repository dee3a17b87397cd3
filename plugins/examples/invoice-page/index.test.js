import assert from 'node:assert/strict';
import test from 'node:test';
import { CoveyError, testContext } from 'covey';
import { handler } from './index.js';
import { total } from './invoice.js';

const invoice = {
	number: '2026-17', date: '2026-05-04', due: '2026-06-03', locale: 'de-DE', from: 'Quail & Co.\nNest 1', to: '<b>Robin</b>', tax: 19,
	lines: [
		{ text: 'Birdseed "fine"', quantity: 3, price: 12.49, tax: 7 },
		{ text: "Nest's repair", quantity: 1.5, price: 80 },
		{ text: 'Discount', price: -0.1 },
	],
};

test('amounts add up to the cent', () => {
	const { net, taxes, gross } = total(invoice);
	assert.deepEqual([net, gross], [157.37, 182.77]);
	assert.deepEqual(taxes, [{ rate: 7, base: 37.47, tax: 2.62 }, { rate: 19, base: 119.9, tax: 22.78 }]);
	assert.equal(total({ lines: Array(10).fill({ price: 0.1 }) }).net, 1);
	assert.equal(total({ lines: [{ price: 1.005 }] }).net, 1.01);
	assert.deepEqual(total({ currency: 'JPY', tax: 10, lines: [{ price: 105 }] }).gross, 116);
	assert.equal(total({ lines: [{ quantity: 0.5, price: -0.01 }] }).net, -0.01);
});

test('the page shows them in the language of the invoice', async () => {
	const context = testContext();
	const page = await handler(invoice, context);
	for (const part of [
		'<html lang="de-DE">', '<h1>Rechnung 2026-17</h1>', '<time datetime="2026-05-04">4. Mai 2026</time>', '<td class="n">12,49\u00a0€</td>',
		'<td class="n">1,5</td>', '<td colspan="3">USt. 7\u00a0%</td><td class="n">2,62\u00a0€</td>', '<td colspan="3">Gesamt</td><td class="n">182,77\u00a0€</td>',
	]) {
		assert.ok(page.includes(part), `${part} is missing in\n${page}`);
	}
	assert.deepEqual(context.response, { contentType: 'text/html; charset=utf-8', status: 0, attributes: [['gross', '182.77']] });
	assert.match(await handler({ ...invoice, locale: 'en-US', currency: 'USD' }, testContext()), /<td colspan="3">Total<\/td><td class="n">\$182\.77<\/td>/);
});

test('what comes from the input is escaped', async () => {
	const page = await handler({ ...invoice, number: '"><script>', note: '<script>alert(1)</script>' }, testContext());
	assert.ok(!page.includes('<script>') && !page.includes('<b>'));
	assert.ok(page.includes('&lt;b&gt;Robin&lt;/b&gt;') && page.includes('Quail &amp; Co.') && page.includes('Birdseed &quot;fine&quot;') && page.includes('Nest&#39;s'));
});

test('a bad invoice is refused with a reason', async () => {
	for (const [change, message] of [
		[{ number: undefined }, /no number/], [{ lines: [] }, /needs lines/], [{ lines: [{}] }, /price of line 1 is not a number/],
		[{ date: 'soon' }, /"soon" is no date/], [{ currency: 'shells' }, /"shells" is no currency/], [{ locale: '?' }, /"\?" is no language/],
		[{ lines: [{ price: 1, quantity: NaN }] }, /quantity of line 1/],
	]) {
		await assert.rejects(handler({ ...invoice, ...change }, testContext()), (err) => err instanceof CoveyError && err.type === 'InvalidInvoice' && message.test(err.message));
	}
});
