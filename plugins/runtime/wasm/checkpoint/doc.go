// Package checkpoint rewrites a WebAssembly module so that it cannot run for long without calling its host. The host can then
// end it, wherever it is, and the Go runtime, which cannot interrupt machine code that it did not make, gets its
// turn.
//
// wazero has something for this too: it leaves the machine code at the head of every loop. That costs some 25 ns for
// each turn, and made hashing five times as slow. Here the module counts down a global variable of its own at the head of
// each loop, and on entry to each function that calls others (so that recursion counts), and calls the host when
// [Every] is used up. It is written in the module's own instructions, and what it calls is an import, so nothing
// depends on how the engine works.
//
// The import gets the index after the module's own imports, and all functions of the module one more than they had;
// the name section follows. Debug information, which speaks of places in the old code, is left out, like all other
// custom sections. Modules of WebAssembly 2.0 are understood (that is what wazero runs); the result is not
// validated, because the engine validates it anyway.
package checkpoint
