// A hook for Node before 22.15 that says where the SDK is; see provide.js.
let url;

export function initialize(data) {
	url = data;
}

export function resolve(specifier, context, next) {
	return specifier === 'covey' ? { url, format: 'module', shortCircuit: true } : next(specifier, context);
}
