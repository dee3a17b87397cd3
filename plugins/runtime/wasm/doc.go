// Package wasm is the runtime `wasm`: a function is a WebAssembly module for WASI preview 1 with the event on standard
// input and the answer on standard output. Modules are compiled to machine code once, when a version is prepared, and run
// by wazero inside this process. Each call gets a fresh instance of the module, so that nothing survives from call
// to call but files in /tmp; making one takes microseconds.
//
// The handler names the module in the function's code and arguments for it ([stdio.Words]); without a handler it is
// the only file that ends in .wasm. A module sees the environment of [stdio.Environment], its code as the folder /,
// which it cannot change, and a private /tmp. There is no network. These variables of the function's environment are for
// this package:
//
//	COVEY_WASM_INIT          1 runs the module once before the first call, with this variable set and no input; an exit
//	                         status other than zero is a failed initialisation
//	COVEY_WASM_STREAM        1 sends output as it comes, without a limit on its size
//	COVEY_WASM_CONTENT_TYPE  the content type of the output
//
// An exit status other than zero is a failed call, and what went to standard error says how ([stdio.Stderr.Failure]). A
// trap is an unhandled error with the stack of the module. All memories of the calls that run at once share the memory
// of the instance; a module that cannot get more sees memory.grow fail. A call that is cancelled or has passed its
// deadline is ended, wherever the module is: package checkpoint sees to that.
//
// # The interface for modules
//
// Beside WASI a module may import these functions from the module "covey". Texts are UTF-8 in the module's memory, given
// as address and length; all arguments are i32.
//
//	fail(type, type_len, message, message_len)
//	    makes the call fail with a typed error, however the module ends afterwards. Exit after it.
//	log(level, message, message_len)
//	    logs one entry, which may have several lines. Levels: 0 trace, 1 debug, 2 info, 3 warn, 4 error.
//	invoke(name, name_len, payload, payload_len) -> i64
//	    invokes another function of the same app, as NAME or NAME:QUALIFIER. The lower 32 bits of the result are the
//	    length of the answer, the upper ones say what it is: 0 the output; 1 an error of that function, as JSON with
//	    errorType, errorMessage, stackTrace and unhandled; 2 the same, but the function certainly did not start.
//	result(to)
//	    copies the answer of the last invoke to the address.
//	set_content_type(text, len), set_status(status), set_attribute(name, name_len, value, value_len)
//	    say things beside the output; before the first byte of a streamed one.
//	cancelled() -> i32
//	    is 1 once nobody waits for the call any longer. A module that imports it gets a tenth of a second to come to
//	    an end by itself.
//
// Package plugins/sdk/wasip1 is this interface for Go.
package wasm
