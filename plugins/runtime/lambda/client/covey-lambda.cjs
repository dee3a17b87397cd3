'use strict';
// Runtime interface client for AWS Lambda packages in JavaScript, for packages that come without AWS's own. It needs
// nothing but Node.js 18 or newer. AWS's client (aws-lambda-ric) is used instead where the package or the machine
// has one that loads.

const fs = require('fs');
const net = require('net');
const path = require('path');
const util = require('util');
const { AsyncLocalStorage } = require('async_hooks');
const { Writable } = require('stream');
const { createRequire } = require('module');
const { pathToFileURL } = require('url');

const API = '/2018-06-01/runtime';
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const PRELUDE_TYPE = 'application/vnd.awslambda.http-integration-response';
const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body';

// Fault is an error of the package, in the words that AWS has for it.
class Fault extends Error {
  constructor(kind, message) {
    super(message);
    this.name = `Runtime.${kind}`;
  }
}

// --- The connection to the Runtime API.

// Connection carries one request after another.
class Connection {
  constructor(address) {
    const at = address.lastIndexOf(':');
    this.host = address.slice(0, at);
    this.port = Number(address.slice(at + 1));
    this.pieces = [];
    this.size = 0;
    this.want = 0; // the size at which looking again makes sense
    this.waiting = null;
  }

  open() {
    if (this.socket) return;
    this.socket = net.connect({ host: this.host, port: this.port, noDelay: true });
    this.socket.on('data', (piece) => {
      this.pieces.push(piece);
      this.size += piece.length;
      if (this.size >= this.want) this.look();
    });
    const gone = (error) => this.fail(error || new Error('the Runtime API has gone'));
    this.socket.on('error', gone);
    this.socket.on('close', () => gone());
  }

  fail(error) {
    const waiting = this.waiting;
    this.waiting = null;
    if (waiting) waiting.reject(error);
    else this.broken = error;
  }

  // look hands over the answer once it is whole.
  look() {
    if (!this.waiting) return;
    const all = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces);
    this.pieces = [all];
    const end = all.indexOf('\r\n\r\n');
    if (end < 0) return;
    const lines = all.toString('latin1', 0, end).split('\r\n');
    const headers = {};
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const whole = end + 4 + Number(headers['content-length'] || 0);
    if (all.length < whole) {
      this.want = whole;
      return;
    }
    this.want = 0;
    this.pieces = all.length > whole ? [all.subarray(whole)] : [];
    this.size = all.length - whole;
    const waiting = this.waiting;
    this.waiting = null;
    waiting.resolve({ status: Number(lines[0].split(' ')[1]), headers, body: all.subarray(end + 4, whole) });
  }

  response() {
    if (this.broken) return Promise.reject(this.broken);
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
  }

  // head sends a request's first part.
  head(method, route, headers) {
    this.open();
    let text = `${method} ${API}${route} HTTP/1.1\r\nHost: ${this.host}:${this.port}\r\n`;
    for (const [name, value] of Object.entries(headers)) text += `${name}: ${oneLine(value)}\r\n`;
    return text + '\r\n';
  }

  request(method, route, body, headers = {}) {
    const data = body === undefined ? null : Buffer.from(body);
    if (data) headers['Content-Length'] = String(data.length);
    const head = this.head(method, route, headers);
    this.socket.write(data ? Buffer.concat([Buffer.from(head, 'latin1'), data]) : head);
    return this.response();
  }

  // report tells of an error.
  report(route, error) {
    const described = describe(error);
    return this.request('POST', route, JSON.stringify(described), {
      'Content-Type': 'application/json',
      [ERROR_TYPE]: described.errorType,
    });
  }

  // While a handler runs, the connection must not count as something that it still waits for.
  ref() {
    if (this.socket) this.socket.ref();
  }

  unref() {
    this.socket.unref();
  }
}

const oneLine = (text) => String(text).replace(/[^ -~]/g, '?');

// describe gives an error the form that the Runtime API takes.
function describe(error) {
  if (error instanceof Error || (error && typeof error.name === 'string' && typeof error.stack === 'string')) {
    return { errorType: error.name, errorMessage: error.message, stackTrace: String(error.stack).split('\n') };
  }
  return { errorType: error === null ? 'object' : typeof error, errorMessage: String(error), stackTrace: [] };
}

// --- Streamed answers.

// ResponseStream sends what is written to it at once, in chunks, and an error behind them.
class ResponseStream extends Writable {
  constructor(connection, id, options) {
    super({ decodeStrings: true, ...options });
    this.connection = connection;
    this.id = id;
    this.type = 'application/octet-stream';
    this.begun = false;
    this.answered = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    this.answered.catch(() => {}); // Whoever waits for it handles it.
  }

  setContentType(type) {
    if (this.begun) throw new Fault('InvalidStreamingOperation', 'Cannot set content-type, too late.');
    this.type = type;
  }

  // write takes what is no text and no bytes as JSON, as AWS's streams do.
  write(chunk, encoding, callback) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    return super.write(chunk, encoding, callback);
  }

  begin() {
    if (this.begun) return '';
    this.begun = true;
    const head = this.connection.head('POST', `/invocation/${this.id}/response`, {
      'Content-Type': this.type,
      'Lambda-Runtime-Function-Response-Mode': 'streaming',
      'Transfer-Encoding': 'chunked',
      Trailer: `${ERROR_TYPE}, ${ERROR_BODY}`,
    });
    let prelude = '';
    if (this._onBeforeFirstWrite) {
      const parts = [];
      this._onBeforeFirstWrite((part) => parts.push(Buffer.from(part)));
      prelude = frame(Buffer.concat(parts));
    }
    return Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(prelude)]);
  }

  _write(chunk, _encoding, callback) {
    if (chunk.length === 0) return void callback();
    this.connection.socket.write(Buffer.concat([Buffer.from(this.begin()), frame(chunk)]), callback);
  }

  _writev(chunks, callback) {
    const whole = Buffer.concat(chunks.map((c) => c.chunk));
    this._write(whole, null, callback);
  }

  _final(callback) {
    this.finish('', callback);
  }

  // fail ends the stream with an error.
  fail(error) {
    if (this.over) return;
    const described = describe(error);
    const body = Buffer.from(JSON.stringify(described)).toString('base64');
    this.finish(`${ERROR_TYPE}: ${oneLine(described.errorType)}\r\n${ERROR_BODY}: ${body}\r\n`, () => {});
    this.destroy();
  }

  finish(trailers, callback) {
    this.over = true;
    const last = Buffer.concat([Buffer.from(this.begin()), Buffer.from(`0\r\n${trailers}\r\n`)]);
    this.connection.socket.write(last, callback);
    this.connection.response().then(this.settle.resolve, this.settle.reject);
  }
}

const frame = (data) =>
  data.length === 0 ? data : Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);

// HttpResponseStream puts an HTTP status and headers in front of a stream.
class HttpResponseStream {
  static from(stream, prelude) {
    stream.setContentType(PRELUDE_TYPE);
    stream._onBeforeFirstWrite = (write) => {
      write(JSON.stringify(prelude));
      write(new Uint8Array(8));
    };
    return stream;
  }
}

// --- Logs.

const calls = new AsyncLocalStorage(); // the request id of the call that runs

function patchConsole() {
  const json = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';
  const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
  const least = Math.max(0, levels.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()));
  const write = (level, parameters) => {
    if (levels.indexOf(level) < least) return;
    const timestamp = new Date().toISOString();
    const requestId = calls.getStore() || current;
    const line = json
      ? jsonLine({ timestamp, level, requestId }, parameters)
      : `${timestamp}\t${requestId}\t${level}\t${util.format(...parameters)}`.replace(/\n/g, '\r');
    // Written at once, because the process may be ended right after.
    writeAll(line + '\n');
  };
  for (const [name, level] of [
    ['trace', 'TRACE'],
    ['debug', 'DEBUG'],
    ['info', 'INFO'],
    ['log', 'INFO'],
    ['warn', 'WARN'],
    ['error', 'ERROR'],
    ['fatal', 'FATAL'],
  ]) {
    console[name] = (...parameters) => write(level, parameters);
  }
}

function jsonLine(line, parameters) {
  if (parameters.length === 1 && parameters[0] instanceof Error) {
    const { errorType, errorMessage } = describe(parameters[0]);
    Object.assign(line, { errorType, errorMessage });
  }
  return JSON.stringify({ ...line, message: util.format(...parameters) });
}

function writeAll(text) {
  const data = Buffer.from(text);
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(1, data, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') return; // Nobody reads any more.
    }
  }
}

// --- The package.

// load returns the function that the handler's name leads to: FOLDER/FILE.EXPORT, where EXPORT may be a path.
async function load(root, handler) {
  if (handler.includes('..')) {
    throw new Fault('MalformedHandlerName', `'${handler}' is not a valid handler name.`);
  }
  const base = path.basename(handler);
  const folder = handler.slice(0, handler.length - base.length);
  const dot = base.indexOf('.');
  if (dot <= 0) throw new Fault('MalformedHandlerName', 'Bad handler');
  const exported = await loadModule(root, path.join(folder, base.slice(0, dot)));
  let found = exported;
  for (const key of base.slice(dot + 1).split('.')) found = found && found[key];
  if (!found) throw new Fault('HandlerNotFound', `${handler} is undefined or not exported`);
  if (typeof found !== 'function') throw new Fault('HandlerNotFound', `${handler} is not a function`);
  return found;
}

async function loadModule(root, name) {
  const file = path.resolve(root, name);
  const require = createRequire(path.join(root, 'index.js'));
  try {
    if (isFile(file)) return require(file);
    if (isFile(file + '.js')) {
      return typeOf(path.dirname(file)) === 'module' ? await import(pathToFileURL(file + '.js')) : require(file + '.js');
    }
    if (isFile(file + '.mjs')) return await import(pathToFileURL(file + '.mjs'));
    if (isFile(file + '.cjs')) return require(file + '.cjs');
    return require(require.resolve(name, { paths: [root, path.dirname(file)] }));
  } catch (error) {
    if (error instanceof SyntaxError) {
      const fault = new Fault('UserCodeSyntaxError', `SyntaxError: ${error.message}`);
      fault.stack = error.stack;
      throw fault;
    }
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      const fault = new Fault('ImportModuleError', `Error: ${error.message}`);
      fault.stack = error.stack;
      throw fault;
    }
    throw error;
  }
}

function isFile(file) {
  const info = fs.statSync(file, { throwIfNoEntry: false });
  return info !== undefined && info.isFile();
}

// typeOf finds out what .js files in a folder are.
function typeOf(folder) {
  for (;;) {
    if (path.basename(folder) === 'node_modules') return 'commonjs';
    const file = path.join(folder, 'package.json');
    if (isFile(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8')).type || 'commonjs';
      } catch {
        return 'commonjs';
      }
    }
    const parent = path.dirname(folder);
    if (parent === folder) return 'commonjs';
    folder = parent;
  }
}

// --- Calls.

let current = ''; // the request id of the latest call
const running = new Set(); // functions that report the failure of a call that runs
const idle = new Map(); // by request id, what to do when there is nothing left to wait for

const environment = () => ({
  functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
  functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
  memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
  logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
  logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
});

function contextOf(headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const clientContext = headers['lambda-runtime-client-context'];
  return {
    callbackWaitsForEmptyEventLoop: true,
    ...environment(),
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    clientContext: clientContext ? JSON.parse(clientContext) : undefined,
    identity: undefined,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

// run calls a handler in any of its forms and returns what it answers with.
function run(handler, id, event, context) {
  return new Promise((resolve, reject) => {
    const finish = (error, value) => {
      if (error !== undefined && error !== null) reject(error);
      else resolve(value);
    };
    // What an empty event loop means, until the handler says more: whatever it waited for will never come.
    const isAsync = handler.constructor && handler.constructor.name === 'AsyncFunction';
    idle.set(id, () => (isAsync ? reject(neverSettled()) : resolve(null)));
    const callback = (error, value) => {
      if ((error !== undefined && error !== null) || !context.callbackWaitsForEmptyEventLoop) finish(error, value);
      else idle.set(id, () => resolve(value));
    };
    context.succeed = (value) => resolve(value);
    context.fail = (error) => reject(error === undefined || error === null ? 'handled' : error);
    context.done = finish;
    const result = handler(event, context, callback);
    if (result && typeof result.then === 'function') result.then(resolve, reject);
  });
}

const neverSettled = () => new Fault('NodeJsExit', 'nothing is left that could settle the promise of the handler');

async function answer(connection, id, value) {
  let body;
  try {
    body = JSON.stringify(value === undefined ? null : value);
    if (body === undefined) body = 'null';
  } catch (error) {
    throw new Fault('MarshalError', `Unable to stringify response body: ${error.message}`);
  }
  connection.ref();
  await connection.request('POST', `/invocation/${id}/response`, body, { 'Content-Type': 'application/json' });
}

async function stream(handler, connection, id, event, context) {
  const mark = handler[HIGH_WATER_MARK];
  const out = new ResponseStream(connection, id, mark ? { highWaterMark: mark } : {});
  out.on('error', () => {}); // It shows below.
  const nothingLeft = new Promise((_, reject) => idle.set(id, () => reject(neverSettled())));
  nothingLeft.catch(() => {});
  try {
    await Promise.race([handler(event, out, context), nothingLeft]);
    if (!out.writableEnded) throw new Fault('StreamError', 'Response stream is not finished.');
  } catch (error) {
    connection.ref();
    if (!out.begun) throw error; // Nothing was sent, so it is an error like any other.
    console.error(error);
    out.fail(error);
  }
  connection.ref();
  await out.answered;
}

// serve runs one call after another, for ever.
async function serve(handler, connection, alone) {
  for (;;) {
    connection.ref();
    const { status, headers, body } = await connection.request('GET', '/invocation/next');
    if (status !== 200) throw new Error(`the Runtime API answers ${status} to a request for the next event`);
    const id = headers['lambda-runtime-aws-request-id'];
    current = id;
    if (alone) {
      // The variable is the process's.
      if (headers['lambda-runtime-trace-id']) process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
      else delete process.env._X_AMZN_TRACE_ID;
    }
    const fail = (error) => connection.report(`/invocation/${id}/error`, error);
    running.add(fail);
    try {
      const context = contextOf(headers);
      const event = JSON.parse(body.toString('utf8'));
      connection.unref();
      if (handler[STREAMING]) {
        await calls.run(id, stream, handler, connection, id, event, context);
      } else {
        await answer(connection, id, await calls.run(id, run, handler, id, event, context));
      }
    } catch (error) {
      calls.run(id, () => console.error(error));
      connection.ref();
      await fail(error);
    }
    running.delete(fail);
    idle.delete(id);
  }
}

// --- The process.

// findOfficial looks for AWS's client and returns the file that starts it.
function findOfficial(root) {
  const folders = [path.join(root, 'node_modules'), ...(process.env.NODE_PATH || '').split(':')];
  folders.push('/usr/local/lib/node_modules', '/usr/lib/node_modules', '/usr/share/nodejs');
  for (const folder of folders) {
    const file = folder && path.join(folder, 'aws-lambda-ric', 'bin', 'index.mjs');
    if (file && isFile(file)) return file;
  }
  return undefined;
}

// runOfficial runs AWS's client, and reports whether it could be started.
async function runOfficial(file, handler) {
  process.argv = [process.argv[0], file, handler];
  try {
    await import(pathToFileURL(file));
    return true;
  } catch (error) {
    process.stderr.write(`aws-lambda-ric does not load here, Covey's own client is used: ${error.message}\n`);
    return false;
  }
}

let ending = false; // the process is about to exit

// watch reports errors that no handler took to the calls that run, and ends the process.
function watch(address) {
  const end = (status) => async (error) => {
    ending = true;
    console.error(error);
    // Without a call it is the initialisation that failed; if that is over, the API refuses the report.
    const reports = running.size > 0 ? [...running] : [(e) => new Connection(address).report('/init/error', e)];
    await Promise.allSettled(reports.map((report) => report(error)));
    process.exit(status);
  };
  process.on('uncaughtException', end(129));
  process.on('unhandledRejection', (reason) => {
    const fault = new Fault('UnhandledPromiseRejection', String(reason && reason.message ? reason.message : reason));
    if (reason && reason.stack) fault.stack = reason.stack;
    return end(128)(fault);
  });
  process.on('beforeExit', () => {
    const waiting = [...idle.values()];
    idle.clear();
    for (const next of waiting) next();
  });
}

async function main() {
  const root = process.env.LAMBDA_TASK_ROOT;
  const handler = process.env._HANDLER;
  const address = process.env.AWS_LAMBDA_RUNTIME_API;
  const count = Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY || 1);
  const official = count === 1 && findOfficial(root);
  if (official && (await runOfficial(official, handler))) return;
  patchConsole();
  watch(address);
  if (!/^(1|true)$/.test(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA || '')) {
    globalThis.awslambda = {
      streamifyResponse: (f, options) => {
        f[STREAMING] = 'response';
        if (options && typeof options.highWaterMark === 'number') f[HIGH_WATER_MARK] = options.highWaterMark;
        return f;
      },
      HttpResponseStream,
    };
  }
  let found;
  try {
    found = await load(root, handler);
  } catch (error) {
    console.error(error);
    await new Connection(address).report('/init/error', error);
    process.exit(1);
  }
  // Promises that were rejected while the module loaded show by now.
  await new Promise(setImmediate);
  if (ending) return;
  for (let i = 0; i < count; i++) {
    serve(found, new Connection(address), count === 1).catch((error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    });
  }
}

main();
