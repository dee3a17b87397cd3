// Package command is the runtime `exec`: any program is a function. In the mode "stdio" each call is a process with the
// event on standard input and the answer on standard output; in the mode "http" the program is a web server that
// lives as long as the instance.
//
// The handler of the function names a program in its code and arguments ([stdio.Words]), or one of the machine's by
// its absolute path; without a handler it is the only executable file of the code. Programs run in the folder of
// the code, which they cannot change. These variables of the function's environment are for this package:
//
//	COVEY_EXEC_MODE          stdio (the default) or http
//	COVEY_EXEC_INIT          stdio: 1 runs the program once before the first call, with this variable set and no input;
//	                         an exit status other than zero is a failed initialisation
//	COVEY_EXEC_STREAM        stdio: 1 sends output as it comes, without a limit on its size
//	COVEY_EXEC_CONTENT_TYPE  stdio: the content type of the output
//	COVEY_EXEC_HEALTH        http: a path that must answer with a status below 400 before the first call
//	COVEY_EXEC_START_MS      http: how long the server may take to listen; default 10000
//	PORT                     http: the server's port; without it a free one is chosen, and passed in this variable
//
// What a call looks like in the environment of a process is documented at [stdio.Environment]. A process that ends with a status other
// than zero failed, and what it wrote to standard error says how ([stdio.Stderr.Failure]). A call that nobody waits for any
// longer is ended with SIGTERM, and with SIGKILL a second later; what a process leaves running ends with its call.
//
// # HTTP servers
//
// A call with the attributes of a web request (http-method, http-path, http-query, http-host, http-header-…, as the
// node's OpenFaaS route sets them) is that request; any other is a POST to /. What is known of the call comes in headers named like
// the variables above (X-Covey-Request-Id, X-Covey-Deadline-Ms, …). Status and headers of the answer go back. An answer
// with a Content-Length is sent in one piece, one without is streamed. The header X-Covey-Error-Type makes an answer the
// function's error, with the body as its message; as a trailer it ends a stream with one. When the server ends, so does
// the instance, with the same status.
//
// # The platform's side
//
// COVEY_API is the address of a web server inside the instance that makes host calls for the program; see [api].
package command
