// What an invoice adds up to. Money is counted in the currency's smallest unit, because fractions of ten do not add up in
// binary.

import { CoveyError } from 'covey';

// digits is how many digits a currency has after the point: two for euros, none for yen.
export function digits(currency) {
	try {
		return new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits;
	} catch {
		throw new CoveyError('InvalidInvoice', `"${currency}" is no currency`);
	}
}

// total checks an invoice and returns its lines with their sums, the tax by rate, and the sums of all.
export function total(invoice) {
	const { currency = 'EUR', lines } = invoice;
	const unit = 10 ** digits(currency);
	if (!Array.isArray(lines) || lines.length === 0) {
		throw new CoveyError('InvalidInvoice', 'an invoice needs lines');
	}
	const taxable = new Map();
	let net = 0;
	const sums = lines.map((line, i) => {
		const quantity = number(line.quantity ?? 1, `quantity of line ${i + 1}`);
		const price = number(line.price, `price of line ${i + 1}`);
		const rate = number(line.tax ?? invoice.tax ?? 0, `tax of line ${i + 1}`);
		const sum = round(quantity * round(price * unit));
		net += sum;
		taxable.set(rate, (taxable.get(rate) ?? 0) + sum);
		return { text: String(line.text ?? ''), quantity, price, rate, sum: sum / unit };
	});
	let gross = net;
	const taxes = [...taxable].sort(([a], [b]) => a - b).map(([rate, sum]) => {
		// Tax is rounded once for each rate, not for each line.
		const tax = round(sum * rate / 100);
		gross += tax;
		return { rate, base: sum / unit, tax: tax / unit };
	});
	return { currency, lines: sums, taxes, net: net / unit, gross: gross / unit };
}

// round rounds halves away from zero, as merchants do.
function round(x) {
	return Math.sign(x) * Math.round(Math.abs(x) * (1 + Number.EPSILON));
}

function number(value, what) {
	if (typeof value !== 'number' || !Number.isFinite(value)) {
		throw new CoveyError('InvalidInvoice', `the ${what} is not a number`);
	}
	return value;
}
