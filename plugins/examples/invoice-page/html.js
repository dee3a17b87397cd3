// A template tag for HTML: what is put into the template is escaped, unless it is HTML already.

class HTML {
	constructor(text) {
		this.text = text;
	}

	toString() {
		return this.text;
	}
}

const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function render(value) {
	if (value instanceof HTML) {
		return value.text;
	}
	if (Array.isArray(value)) {
		return value.map(render).join('');
	}
	if (value === undefined || value === null || value === false) {
		return '';
	}
	return String(value).replace(/[&<>"']/g, (c) => entities[c]);
}

export function html(strings, ...values) {
	return new HTML(strings.reduce((text, s, i) => text + render(values[i - 1]) + s));
}
