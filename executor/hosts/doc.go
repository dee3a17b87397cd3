// Package hosts has the processes of runtimes ready before anybody knows for whom.
//
// An instance of every runtime but "go" is a process of that runtime: an interpreter
// or one of our own programs, which becomes the function when it is told so. Starting
// an interpreter takes tens of milliseconds, and nothing of that depends on the
// function. So a Pool keeps a few started, confined and waiting: the blanks. A blank
// never saw code of a function; it becomes one function and no other.
//
// What a function needs besides is a folder with its code. Trees unpacks archives
// into folders that belong to the daemon, once per life of the daemon, and keeps them
// while instances use them. Where a runtime can compute something from code alone
// (bytecode, machine code), Prepare lets a process of its own do that, ahead, and the
// result is shown to instances beside the code.
//
// Detect finds out which runtimes a machine can host: interpreters are asked for
// their version inside the sandbox, where they will have to run.
package hosts
