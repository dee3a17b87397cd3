// The invoice as a page, in the words and formats of its language.

import { CoveyError } from 'covey';
import { html } from './html.js';

const words = {
	en: { invoice: 'Invoice', date: 'Date', due: 'Due', text: 'Item', quantity: 'Quantity', price: 'Price', sum: 'Amount', net: 'Net', tax: 'Tax', gross: 'Total' },
	de: { invoice: 'Rechnung', date: 'Datum', due: 'Fällig', text: 'Posten', quantity: 'Menge', price: 'Preis', sum: 'Betrag', net: 'Netto', tax: 'USt.', gross: 'Gesamt' },
	fr: { invoice: 'Facture', date: 'Date', due: 'Échéance', text: 'Article', quantity: 'Quantité', price: 'Prix', sum: 'Montant', net: 'HT', tax: 'TVA', gross: 'TTC' },
};

const style = html`<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #222 }
header { display: flex; justify-content: space-between; gap: 2rem }
address { font-style: normal; white-space: pre-line }
table { width: 100%; border-collapse: collapse; margin-top: 2rem; font-variant-numeric: tabular-nums }
th, td { padding: .4rem .6rem; border-bottom: 1px solid #ddd; text-align: left }
td.n, th.n { text-align: right; white-space: nowrap }
tfoot tr:last-child { font-weight: bold }
</style>`;

// formats are made once for each language and currency: making one costs more than the rest of a page.
const formats = new Map();

function formatsFor(locale, currency) {
	const key = `${locale} ${currency}`;
	let f = formats.get(key);
	if (f === undefined) {
		try {
			f = {
				money: new Intl.NumberFormat(locale, { style: 'currency', currency }),
				number: new Intl.NumberFormat(locale, { maximumFractionDigits: 3 }),
				percent: new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 2 }),
				date: new Intl.DateTimeFormat(locale, { dateStyle: 'long', timeZone: 'UTC' }),
			};
		} catch {
			throw new CoveyError('InvalidInvoice', `"${locale}" is no language`);
		}
		if (formats.size > 100) {
			formats.clear();
		}
		formats.set(key, f);
	}
	return f;
}

function date(f, text) {
	const day = new Date(text);
	if (Number.isNaN(day.getTime())) {
		throw new CoveyError('InvalidInvoice', `"${text}" is no date`);
	}
	return html`<time datetime="${day.toISOString().slice(0, 10)}">${f.date.format(day)}</time>`;
}

// render returns the page of an invoice and its totals.
export function render(invoice, totals) {
	const locale = invoice.locale ?? 'en';
	const f = formatsFor(locale, totals.currency);
	const w = words[locale.split('-')[0]] ?? words.en;
	const money = (n) => html`<td class="n">${f.money.format(n)}</td>`;
	const foot = (label, n) => html`<tr><td colspan="3">${label}</td>${money(n)}</tr>\n`;
	return String(html`<!doctype html>
<html lang="${locale}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${w.invoice} ${invoice.number}</title>
${style}</head>
<body>
<header><div><h1>${w.invoice} ${invoice.number}</h1>
<p>${w.date}: ${date(f, invoice.date)}${invoice.due && html`<br>${w.due}: ${date(f, invoice.due)}`}</p></div>
<address>${invoice.from}</address></header>
<address>${invoice.to}</address>
<table>
<thead><tr><th>${w.text}</th><th class="n">${w.quantity}</th><th class="n">${w.price}</th><th class="n">${w.sum}</th></tr></thead>
<tbody>
${totals.lines.map((l) => html`<tr><td>${l.text}</td><td class="n">${f.number.format(l.quantity)}</td>${money(l.price)}${money(l.sum)}</tr>\n`)}</tbody>
<tfoot>
${foot(w.net, totals.net)}${totals.taxes.map((t) => foot(`${w.tax} ${f.percent.format(t.rate / 100)}`, t.tax))}${foot(w.gross, totals.gross)}</tfoot>
</table>
${invoice.note && html`<p>${invoice.note}</p>`}
</body>
</html>
`);
}
