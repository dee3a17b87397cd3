// The function's own source files.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const most = 20;
const patience = 5000;

// sources yields the files that may be ES modules, without those of packages.
function* sources(dir) {
	for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
		const file = path.join(dir, entry.name);
		if (entry.isDirectory() && entry.name !== 'node_modules') {
			yield* sources(file);
		} else if (/\.m?js$/.test(entry.name)) {
			yield file;
		}
	}
}

// imports reports whether a module of the function's own imports a package.
function imports(code, name) {
	const statement = new RegExp(`(?:\\bfrom|\\bimport\\s*\\(?)\\s*['"]${name}['"]`);
	for (const file of sources(code)) {
		if (statement.test(fs.readFileSync(file, 'utf8'))) {
			return true;
		}
	}
	return false;
}

// locate adds file and line to the syntax error of an ES module, which Node tells only where it ends the process with it.
function locate(err, code, first) {
	let left = most;
	for (const file of new Set([first, ...sources(code)])) {
		const { status, stderr } = spawnSync(process.execPath, ['--check', file], { encoding: 'utf8', timeout: patience });
		if (status !== 0 && stderr.startsWith(file)) {
			err.stack = `${stderr.split('\n\n')[0]}\n\n${err.stack}`;
			return;
		}
		if (--left === 0) {
			return;
		}
	}
}

module.exports = { imports, locate };
