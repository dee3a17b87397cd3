// How functions find the SDK without installing it.
'use strict';

const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { imports } = require('./sources.js');

const name = 'covey';
const note = 'imports-covey';

// provideToRequire makes require find the SDK, after everything else. own is the function's NODE_PATH, if it has one.
function provideToRequire(own) {
	process.env.NODE_PATH = own ? `${own}${path.delimiter}${__dirname}` : __dirname;
	Module._initPaths();
	if (own === undefined) {
		delete process.env.NODE_PATH;
	} else {
		process.env.NODE_PATH = own;
	}
}

// provideToImport makes import find it, for which Node has no variable: where it is not found by itself, a hook says
// where it is. Node before 22.15 runs hooks in a thread of their own, which costs a lot of time, so there it is done
// only for a function that needs it.
function provideToImport(code, cache) {
	if (found(path.resolve(code))) {
		return; // In the sandbox a folder above the code has the SDK.
	}
	const url = pathToFileURL(path.join(__dirname, name, 'index.mjs')).href;
	if (Module.registerHooks) {
		Module.registerHooks({
			resolve: (specifier, context, next) => specifier === name && context.conditions?.includes('import')
				? { url, format: 'module', shortCircuit: true } : next(specifier, context),
		});
	} else if (Module.register && isImported(code, cache)) {
		Module.register(pathToFileURL(path.join(__dirname, 'hooks.mjs')).href, { data: url });
	}
}

// found tells whether Node finds the SDK from dir by itself.
function found(dir) {
	const above = path.dirname(dir);
	return fs.existsSync(path.join(dir, 'node_modules', name)) || (above !== dir && found(above));
}

// noteImport leaves in the cache whether the function's own code imports the SDK, so that its starts need not look for it.
function noteImport(code, cache) {
	fs.writeFileSync(path.join(cache, note), String(imports(code, name)));
}

function isImported(code, cache) {
	const file = path.join(cache, note);
	return cache !== '' && fs.existsSync(file) ? fs.readFileSync(file, 'utf8') === 'true' : imports(code, name);
}

module.exports = { noteImport, provideToImport, provideToRequire };
