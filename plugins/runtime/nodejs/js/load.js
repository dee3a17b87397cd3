// Finding the function's handler.
'use strict';

const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { CoveyError } = require('./covey/errors.js');

const defaultHandler = 'index.handler';
const extensions = ['.js', '.mjs', '.cjs'];

// load returns the function that "file.export" names in the folder code.
async function load(code, handler) {
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
		const text = readIfThere(path.join(dir, 'package.json'));
		if (text !== undefined) {
			return JSON.parse(text).type === 'module';
		}
		if (dir === code || dir === path.dirname(dir)) {
			return false;
		}
	}
}

function readIfThere(file) {
	try {
		return fs.readFileSync(file, 'utf8');
	} catch (err) {
		if (err.code === 'ENOENT') {
			return undefined;
		}
		throw err;
	}
}

function importModule(file, code) {
	provideToModules(code);
	return import(pathToFileURL(file).href);
}

// provideToRequire makes require find the SDK, after everything else, as NODE_PATH does.
function provideToRequire() {
	const own = process.env.NODE_PATH;
	process.env.NODE_PATH = own ? `${own}${path.delimiter}${__dirname}` : __dirname;
	Module._initPaths();
	if (own === undefined) {
		delete process.env.NODE_PATH;
	} else {
		process.env.NODE_PATH = own;
	}
}

// provideToModules makes import find the SDK. In the sandbox it does by itself, because a folder above the code has it
// among its node_modules; elsewhere a hook says where it is. Node before 22.15 runs hooks in a thread of
// their own, which costs tens of milliseconds.
function provideToModules(code) {
	for (let dir = path.resolve(code); ; dir = path.dirname(dir)) {
		if (fs.existsSync(path.join(dir, 'node_modules', 'covey'))) {
			return;
		}
		if (dir === path.dirname(dir)) {
			break;
		}
	}
	const url = pathToFileURL(path.join(__dirname, 'covey', 'index.mjs')).href;
	if (Module.registerHooks) {
		Module.registerHooks({
			resolve: (specifier, context, next) => specifier === 'covey' && context.conditions?.includes('import')
				? { url, format: 'module', shortCircuit: true } : next(specifier, context),
		});
	} else if (Module.register) {
		Module.register(pathToFileURL(path.join(__dirname, 'hooks.mjs')).href, { data: url });
	}
}

module.exports = { load, provideToRequire };
