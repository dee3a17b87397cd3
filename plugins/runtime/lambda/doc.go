// Package lambda is the runtime that runs unmodified AWS Lambda packages. Its process is started blank, and once
// it knows its function it starts the function's own program beside it and serves the Lambda Runtime API
// (2018-06-01) to it on a loopback port of their sandbox.
//
// The program is the package's bootstrap, or an interpreter with a runtime interface client for the package's
// handler: AWS's own client where the package or the machine has it, and one of ours otherwise. See program.go for
// what is chosen when, environment.go for what the program finds around it, and api.go for the API.
//
// An invocation is over when its answer is complete; the program's next poll overlaps with whatever happens then.
// A program that ends during a call takes this process with it, under the same exit status, so that the node sees
// an instance that ended. One that ends between calls is started again, as on AWS.
package lambda
