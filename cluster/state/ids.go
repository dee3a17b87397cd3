package state

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Own types for ids and names: two strings swap silently in a call.
type (
	// NodeID is a node's random UUID in its text form. It outlives restarts and
	// address changes; once removed it never comes back.
	NodeID string
	// ClusterID is the random UUID of a cluster.
	ClusterID string
	// AppName names an app: a lower-case DNS label.
	AppName string
	// FunctionName names a function within its app.
	FunctionName string
	// AliasName names an alias within its function.
	AliasName string
	// TokenID is the public name of a token; it opens nothing.
	TokenID string
	// VersionNumber numbers the versions of one function from 1 on. Numbers are
	// not used again, not even after the function was deleted.
	VersionNumber uint64
	// Index is a position in the control group's log.
	Index uint64
)

const (
	// DefaultApp is the app that an unqualified function name belongs to.
	DefaultApp AppName = "default"
	// Live is the alias that every function has and that an unqualified
	// invocation goes to.
	Live AliasName = "live"
	// Latest is the qualifier of the newest version.
	Latest = "$LATEST"
)

// FunctionKey names a function in the cluster.
type FunctionKey struct {
	App  AppName
	Name FunctionName
}

// String returns "app/name".
func (k FunctionKey) String() string { return string(k.App) + "/" + string(k.Name) }

// VersionKey names a version in the cluster.
type VersionKey struct {
	App      AppName
	Function FunctionName
	Number   VersionNumber
}

// String returns "app/name:3".
func (k VersionKey) String() string {
	return string(k.App) + "/" + string(k.Function) + ":" + strconv.FormatUint(uint64(k.Number), 10)
}

// FunctionKey returns the key of the version's function.
func (k VersionKey) FunctionKey() FunctionKey { return FunctionKey{App: k.App, Name: k.Function} }

// Hash returns the xxhash of String, without building it. All nodes agree on
// it, so it places versions on a ring and names them in gossip.
func (k VersionKey) Hash() uint64 {
	var buf [keyBuffer]byte
	b := appendFunctionKey(buf[:0], k.App, k.Function)
	b = append(b, ':')
	return xxhash.Sum64(strconv.AppendUint(b, uint64(k.Number), 10))
}

// ParseVersionKey reads the form that String writes.
func ParseVersionKey(s string) (VersionKey, error) {
	app, rest, ok := strings.Cut(s, "/")
	name, number, ok2 := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || !ok2 || err != nil || n == 0 {
		return VersionKey{}, fmt.Errorf("parse version %q: want APP/NAME:NUMBER", s)
	}
	return VersionKey{App: AppName(app), Function: FunctionName(name), Number: VersionNumber(n)}, nil
}

// Ref returns the key as commands carry it.
func (k VersionKey) Ref() *clusterpb.VersionRef {
	return &clusterpb.VersionRef{App: string(k.App), Function: string(k.Function), Version: uint64(k.Number)}
}

// KeyOf is the inverse of Ref; a nil reference is the zero key.
func KeyOf(ref *clusterpb.VersionRef) VersionKey {
	return VersionKey{
		App:      AppName(ref.GetApp()),
		Function: FunctionName(ref.GetFunction()),
		Number:   VersionNumber(ref.GetVersion()),
	}
}

// keyBuffer holds any valid key, so that lookups build theirs on the stack:
// two names, separators and a decimal or binary number.
const keyBuffer = 2*maxName + 32

func appendFunctionKey(b []byte, app AppName, name FunctionName) []byte {
	b = append(b, app...)
	b = append(b, '/')
	return append(b, name...)
}

// appendVersionKey keeps versions of a function together and in order.
func appendVersionKey(b []byte, k VersionKey) []byte {
	b = appendFunctionKey(b, k.App, k.Function)
	b = append(b, ':')
	return appendBigEndian(b, uint64(k.Number))
}

// appendBigEndian appends n so that byte order is number order.
func appendBigEndian(b []byte, n uint64) []byte {
	return append(b, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}
