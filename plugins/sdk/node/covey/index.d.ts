/// <reference types="node" />
import type { Readable } from 'node:stream';

/** A JSON value, text or bytes: strings and bytes travel as they are, everything else as JSON. */
export type Payload = unknown;

/** What a handler may return, or resolve to. An async iterable or a Readable is streamed, piece by piece. */
export type Answer = Payload | AsyncIterable<string | Uint8Array> | Readable;

/**
 * A function's handler. `event` is the parsed input: JSON if the content type says so or is missing ({} for an empty
 * input), a string for text, else a Buffer. `context.payload` has the bytes.
 */
export type Handler<E = any, A = Answer> = (event: E, context: Context) => A | Promise<A>;

/** A handler that answers through a callback: one that declares three parameters. */
export type CallbackHandler<E = any> = (event: E, context: Context, callback: (error?: unknown, answer?: Answer) => void) => void;

export interface InvokeOptions {
	/** The content type of the payload; derived from it by default. */
	contentType?: string;
	/** Gives the call up. The default is the current call's signal. */
	signal?: AbortSignal;
	/** Resolve to the bytes, whatever the content type of the answer. */
	raw?: boolean;
}

export interface Logger {
	trace(message: unknown, fields?: object): void;
	debug(message: unknown, fields?: object): void;
	info(message: unknown, fields?: object): void;
	warn(message: unknown, fields?: object): void;
	error(message: unknown, fields?: object): void;
}

/** What a handler knows of its call, and what it says beside its answer. */
export class Context {
	/** The same in every attempt at one call. */
	readonly requestId: string;
	/** Counts from 1. A higher one says that an earlier attempt may have had effects. */
	readonly attempt: number;
	readonly app: string;
	readonly function: string;
	readonly version: number;
	/** The id of the node that runs the call. */
	readonly node: string;
	/** When the caller gives up and the instance is ended; undefined means never. */
	readonly deadline: Date | undefined;
	/** The content type of the input, or "". */
	readonly contentType: string;
	/** A W3C traceparent, or "". */
	readonly trace: string;
	/** How many functions called each other up to this call. */
	readonly depth: number;
	/** Facts beside the input, such as the method and path of a web request. */
	readonly attributes: Record<string, string>;
	/** The input as it came. */
	readonly payload: Buffer;
	/** Aborts when the caller gives up or the deadline passes. */
	readonly signal: AbortSignal;
	/** A logger whose lines are filed under this call. */
	readonly log: Logger;
	/** What the setters below were told, for tests. */
	readonly response: { contentType: string; status: number; attributes: [string, string][] };
	/** The time left until the deadline; Infinity without one. */
	getRemainingTimeInMillis(): number;
	/** Sets the content type of the answer. A streaming handler must do it before its first piece, as with the next two. */
	setContentType(contentType: string): void;
	/** Sets the HTTP status that a web caller sees, if the route passes it on. It does not make the call a failure. */
	setStatus(status: number): void;
	/** Adds an attribute to the answer, such as an HTTP header for a web caller. */
	setAttribute(name: string, value: string): void;
	/** Like the function `invoke`, for this call. */
	invoke(name: string, payload?: Payload, options?: InvokeOptions): Promise<any>;
}

/** An error with a type that callers can branch on. Thrown by a handler, it reaches the caller as an error that the function meant. */
export class CoveyError extends Error {
	constructor(type: string, message?: string, options?: { cause?: unknown });
	/** A short stable name, such as "NotFound". */
	readonly type: string;
	/** Covey and not the function failed. */
	readonly platform: boolean;
	/** The function fell over the error and did not mean it. */
	readonly unhandled: boolean;
	/** The call had no effect and may be tried again. */
	readonly notStarted: boolean;
	/** Where the other function fell over the error, if it did. */
	readonly remoteStack: string;
}

/** The context of the call that the running code belongs to, or undefined outside of calls. */
export function current(): Context | undefined;

/**
 * Calls another function of the same app, on behalf of the current call. `name` may carry a version or an alias, as in
 * "resize:3". Resolves to the parsed answer if it is JSON, to a string if it is text, else to a Buffer; rejects with
 * a CoveyError if the function failed.
 */
export function invoke(name: string, payload?: Payload, options?: InvokeOptions): Promise<any>;

/** A logger whose lines are filed under the current call. */
export const log: Logger;

/** Makes a context to test a handler without a node. `invoke` stands in for other functions. */
export function testContext(
	fields?: Partial<Omit<Context, 'invoke'>> & { invoke?: (name: string, payload?: Payload) => any },
): Context;

/** Runs fn with a current context, for tests. */
export function withContext<A extends any[], R>(context: Context, fn: (...args: A) => R, ...args: A): R;
