// Package wasip1 is for functions written in Go and compiled to WebAssembly with GOOS=wasip1 GOARCH=wasm. Such a function is a
// command: it reads its event from standard input, writes its answer to standard output, and finds its call
// described in the environment (COVEY_REQUEST_ID and more). This package is the rest: what WASI has no word for. It
// is empty for other systems.
//
//	func main() {
//		event, err := io.ReadAll(os.Stdin)
//		if err != nil {
//			wasip1.Fail("ReadError", err.Error())
//		}
//		wasip1.SetContentType("text/plain")
//		fmt.Printf("%d bytes\n", len(event))
//	}
package wasip1
