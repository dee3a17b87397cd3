// Finding the function's handler.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { CoveyError } = require('./covey/errors.js');
const { locate } = require('./sources.js');

const defaultHandler = 'index.handler';
// deepStack lets a stack reach beyond Node's loader to the line of the function's that loads.
const deepStack = 40;
const extensions = ['.js', '.mjs', '.cjs'];

// load returns the function that "file.export" names in the folder code.
async function load(code, handler) {
	const { stackTraceLimit } = Error;
	Error.stackTraceLimit = deepStack;
	try {
		return await loadHandler(code, handler);
	} finally {
		if (Error.stackTraceLimit === deepStack) { // The function has not set it.
			Error.stackTraceLimit = stackTraceLimit;
		}
	}
}

async function loadHandler(code, handler) {
	const name = handler || defaultHandler;
	const { file, keys } = find(code, name);
	process.argv[1] = file;
	const exports = isModule(file, code) ? await importModule(file, code) : require(file);
	const value = keys.reduce((v, key) => v?.[key], exports) ??
		keys.reduce((v, key) => v?.[key], exports?.default);
	if (typeof value !== 'function') {
		const names = Object.keys(exports ?? {}).join(', ') || 'nothing';
		throw new CoveyError('HandlerNotFound', `${path.basename(file)} exports no function "${keys.join('.')}"; it exports ${names}`);
	}
	return value;
}

async function importModule(file, code) {
	try {
		return await import(pathToFileURL(file).href);
	} catch (err) {
		if (err instanceof SyntaxError && err.stack.startsWith('SyntaxError')) {
			locate(err, code, file);
		}
		throw err;
	}
}

// find splits a handler's name at the first dot of its last part and finds the file.
function find(code, name) {
	const slash = name.lastIndexOf('/') + 1;
	const dot = name.indexOf('.', slash);
	if (dot <= slash || dot === name.length - 1 || path.isAbsolute(name) || name.split('/').includes('..')) {
		throw new CoveyError('BadHandler', `the handler "${name}" does not have the form "file.export"`);
	}
	const base = path.join(code, name.slice(0, dot));
	for (const extension of extensions) {
		const file = base + extension;
		if (fs.statSync(file, { throwIfNoEntry: false })?.isFile()) {
			return { file, keys: name.slice(dot + 1).split('.') };
		}
	}
	const tried = extensions.map((e) => name.slice(0, dot) + e).join(', ');
	throw new CoveyError('HandlerNotFound', `the handler "${name}" needs one of ${tried}, and there is none`);
}

// isModule reports whether Node takes the file for an ES module.
function isModule(file, code) {
	if (file.endsWith('.mjs')) {
		return true;
	}
	if (file.endsWith('.cjs')) {
		return false;
	}
	for (let dir = path.dirname(file); ; dir = path.dirname(dir)) {
		const description = path.join(dir, 'package.json');
		if (fs.existsSync(description)) {
			return JSON.parse(fs.readFileSync(description, 'utf8')).type === 'module';
		}
		if (dir === code || dir === path.dirname(dir)) {
			return false;
		}
	}
}

module.exports = { load };
