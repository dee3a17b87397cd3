// The program that plugins/plugintest drives, as an ES module.
import { createHash } from 'node:crypto';
import covey, { CoveyError } from 'covey';

switch (process.env.CONFORMANCE_INIT) {
case 'error':
	throw new CoveyError('NoNest', 'no nest');
case 'panic':
	throw new Error('no nest');
case 'exit':
	process.exit(4);
}

let cancelled = 0;
const meetings = new Map();

const operations = {
	echo: ({ data }) => ({ data }),
	context: (event, context) => ({
		request_id: context.requestId, app: context.app, function: context.function, version: context.version,
		attempt: context.attempt, node: context.node, trace: context.trace, content_type: context.contentType,
		attributes: context.attributes,
		remaining_ms: context.deadline ? Math.round(context.getRemainingTimeInMillis()) : 0,
	}),
	error: ({ type, data }) => {
		throw new CoveyError(type, data);
	},
	panic: ({ data }) => {
		throw new Error(data);
	},
	exit: ({ n }) => process.exit(n),
	hang: () => {
		for (;;);
	},
	wait: (event, context) => new Promise((resolve, reject) => {
		context.signal.addEventListener('abort', () => {
			cancelled++;
			reject(context.signal.reason);
		});
	}),
	cancelled: () => ({ n: cancelled }),
	hash: ({ data }) => ({ n: Buffer.byteLength(data), data: createHash('sha256').update(data).digest('hex') }),
	produce: ({ n }) => Buffer.from(JSON.stringify('x'.repeat(n - 2))),
	meet: ({ n }) => new Promise((resolve) => {
		const waiting = meetings.get(n) ?? [];
		meetings.set(n, waiting);
		waiting.push(() => resolve({ n }));
		if (waiting.length === n) {
			waiting.forEach((go) => go());
		}
	}),
	log: ({ data }, context) => {
		context.log.info(data, { field: 1 });
		return {};
	},
	env: ({ data }) => ({ data: process.env[data] }),
	invoke: async ({ type, data }) => {
		const output = await covey.invoke(type, data, { raw: true });
		return { data: output.toString() };
	},
	allocate: ({ n }) => ({ n: Buffer.alloc(n, 1).length }),
};

async function* stream({ n, type, data }) {
	for (let i = 0; i < n; i++) {
		yield `line ${i}\n`;
	}
	if (type) {
		throw new CoveyError(type, data);
	}
}

export const handler = async (event, context) => {
	if (event.op === 'stream' && process.env.CONFORMANCE_STREAM) {
		return stream(event);
	}
	const operation = operations[event.op];
	if (!operation) {
		throw new CoveyError('UnknownOp', `unknown operation ${event.op}`);
	}
	return operation(event, context);
};
