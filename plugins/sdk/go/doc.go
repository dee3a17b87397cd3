// Package covey is the SDK for functions written in Go. A function is a main package that calls one of
// [Serve], [ServeJSON] and [ServeStream]:
//
//	func main() {
//		covey.Serve(func(ctx context.Context, payload []byte) ([]byte, error) {
//			covey.Logger(ctx).Info("called", "bytes", len(payload))
//			return payload, nil
//		})
//	}
//
// The node starts the program, sends it calls over a socket that it inherits, and stops it when it has been
// idle. One instance gets one call at a time unless the function was deployed with a higher concurrency; state in
// package variables lives as long as the instance.
//
// A cold start waits for this package, so it links no RPC framework and does little before the first call:
// beside the data plane it serves go-plugin's net/rpc protocol, from when the instance is ready.
package covey
