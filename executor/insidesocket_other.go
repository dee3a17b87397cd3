//go:build !linux

package executor

// insideSocket is a Unix socket of an instance; elsewhere it is an ordinary one.
type insideSocket struct{}

func (*insideSocket) open(_ int, path string) string { return path }
func (*insideSocket) close()                         {}
