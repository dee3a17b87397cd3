// The Lambda function in JavaScript that the conformance suite drives. It knows nothing of Covey.

import { createHash } from 'node:crypto';
import { once } from 'node:events';

switch (process.env.CONFORMANCE_INIT) {
  case 'error':
    throw new Error('no nest');
  case 'panic':
    throw new TypeError('no nest');
  case 'exit':
    process.exit(4);
}

const meetings = new Map();

function meet(n) {
  let meeting = meetings.get(n);
  if (!meeting) {
    meeting = { count: 0 };
    meeting.all = new Promise((resolve) => {
      meeting.open = resolve;
    });
    meetings.set(n, meeting);
  }
  if (++meeting.count === n) meeting.open();
  return meeting.all.then(() => ({ n }));
}

function seen(context) {
  const arn = context.invokedFunctionArn.split(':');
  if (arn[6] !== context.functionName || arn[7] !== context.functionVersion) throw new Error(`the ARN is ${arn}`);
  const out = {
    request_id: context.awsRequestId,
    app: arn[4] === '000000000000' ? 'default' : arn[4],
    function: context.functionName,
    version: Number(context.functionVersion),
    remaining_ms: context.getRemainingTimeInMillis(),
  };
  const trace = Object.fromEntries((process.env._X_AMZN_TRACE_ID || '').split(';').map((part) => part.split('=')));
  if (trace.Root) {
    const [, time, rest] = trace.Root.split('-');
    out.trace = `00-${time}${rest}-${trace.Parent}-0${trace.Sampled}`;
  }
  return out;
}

const operations = {
  echo: (event) => ({ data: event.data || '' }),
  context: (_, context) => seen(context),
  error: (event) => {
    throw Object.assign(new Error(event.data), { name: event.type });
  },
  panic: (event) => {
    throw new Error(event.data);
  },
  exit: (event) => process.exit(event.n),
  hang: () => new Promise(() => setInterval(() => {}, 3600e3)),
  hash: (event) => ({ n: Buffer.byteLength(event.data), data: createHash('sha256').update(event.data).digest('hex') }),
  produce: (event) => 'x'.repeat(event.n - 2),
  meet: (event) => meet(event.n),
  log: (event) => {
    console.info(event.data);
    return {};
  },
  env: (event) => ({ data: process.env[event.data] || '' }),
  allocate: (event) => ({ n: Buffer.alloc(event.n, 1).length }),
};

const whole = async (event, context) => operations[event.op](event, context);

const streamed = async (event, out, context) => {
  if (event.op !== 'stream') {
    out.end(JSON.stringify(await operations[event.op](event, context)));
    return;
  }
  for (let i = 0; i < event.n; i++) {
    if (!out.write(`line ${i}\n`)) await once(out, 'drain');
  }
  if (event.type) throw Object.assign(new Error(event.data), { name: event.type });
  out.end();
};

export const handler = process.env.CONFORMANCE_STREAM ? awslambda.streamifyResponse(streamed) : whole;
