// The SDK as the author of a function meets it in a unit test: installed, without a node.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import test from 'node:test';
import covey, { Context, CoveyError, current, invoke, log, testContext, withContext } from 'covey';

const required = createRequire(import.meta.url)('covey');

test('both kinds of modules get the same', () => {
	assert.equal(covey, required);
	assert.deepEqual(Object.keys(covey).sort(), ['Context', 'CoveyError', 'current', 'invoke', 'log', 'testContext', 'withContext']);
	assert.equal(required.CoveyError, CoveyError);
});

test('errors have a type, also those of another copy', () => {
	const cause = new Error('why');
	const err = new CoveyError('NotFound', 'no bird', { cause });
	assert.deepEqual([err.name, err.type, err.message, err.cause, err.unhandled, String(err)], ['NotFound', 'NotFound', 'no bird', cause, false, 'NotFound: no bird']);
	assert.ok(err instanceof Error && err instanceof CoveyError && !(cause instanceof CoveyError));
	const require = createRequire(import.meta.url);
	const path = require.resolve('covey');
	const cached = Object.keys(require.cache).filter((k) => k.startsWith(path.replace('index.js', '')));
	cached.forEach((k) => delete require.cache[k]);
	const other = require('covey');
	assert.notEqual(other.CoveyError, CoveyError);
	assert.ok(new other.CoveyError('A', 'b') instanceof CoveyError);
	const context = testContext();
	assert.equal(withContext(context, () => other.current()), context);
});

test('a context says what it was told and remembers what is set', () => {
	const context = testContext({ app: 'shop', attributes: { width: '3' }, deadline: new Date(Date.now() + 5000), payload: Buffer.from('x') });
	assert.ok(context instanceof Context);
	assert.deepEqual([context.requestId, context.attempt, context.app, context.attributes.width], ['test', 1, 'shop', '3']);
	const left = context.getRemainingTimeInMillis();
	assert.ok(left > 4000 && left <= 5000);
	assert.equal(testContext().getRemainingTimeInMillis(), Infinity);
	context.setStatus(201);
	context.setContentType('text/x');
	context.setAttribute('a', 1);
	context.setAttribute('a', 2);
	assert.deepEqual(context.response, { contentType: 'text/x', status: 201, attributes: [['a', '1'], ['a', '2']] });
	assert.throws(() => context.setStatus(7), RangeError);
	assert.throws(() => context.setStatus('201'), RangeError);
});

test('the signal aborts at the deadline and when cancelled', async () => {
	const late = testContext({ deadline: new Date(Date.now() + 5) });
	// The timer alone keeps no process alive.
	const alive = setInterval(() => {}, 1000);
	await new Promise((resolve) => late.signal.addEventListener('abort', resolve));
	clearInterval(alive);
	assert.equal(late.signal.reason.name, 'TimeoutError');
	const cancelled = testContext();
	cancelled.cancel();
	assert.equal(cancelled.signal.reason.name, 'AbortError');
	assert.equal(testContext().signal.aborted, false);
	assert.equal(testContext({ deadline: new Date(8.64e15) }).signal.aborted, false);
});

test('current follows the call through whatever it awaits', async () => {
	assert.equal(current(), undefined);
	const [a, b] = [testContext({ requestId: 'a' }), testContext({ requestId: 'b' })];
	const id = async () => {
		await new Promise(setImmediate);
		return current().requestId;
	};
	assert.deepEqual(await Promise.all([withContext(a, id), withContext(b, id)]), ['a', 'b']);
});

test('invoke calls the stub of a test, and fails without one', async () => {
	const context = testContext({ invoke: (name, payload) => `${name} got ${payload}` });
	assert.equal(await context.invoke('other', 1), 'other got 1');
	assert.equal(await withContext(context, () => invoke('other', 2)), 'other got 2');
	await assert.rejects(testContext().invoke('other'), /invoke other: there is no node/);
	await assert.rejects(invoke('other'), /invoke other/);
});

test('the logger writes for people', () => {
	const script = `const { log, testContext } = require('covey');
		log.warn('stock is low', { item: 1n }); testContext().log.info(new TypeError('x').message); log.error(Symbol.iterator);`;
	const { stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
	assert.equal(stderr, 'warn: stock is low {"item":"1"}\ninfo: x\nerror: Symbol(Symbol.iterator)\n');
	assert.equal(typeof log.trace, 'function');
});
