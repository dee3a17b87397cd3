package state

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// FeatureLevel is the highest level of commands that this release understands:
//
//   - 1: the first release
//   - 2: access keys, and settings of runtimes in the environment
//   - 3: reserved and provisioned concurrency, and rates of functions; labels of
//     nodes, placement by them, and affinity
const FeatureLevel uint32 = 3

// AccessKeyLevel is the feature level that a cluster must have before an access
// key may be proposed: older nodes do not know what it is.
const AccessKeyLevel uint32 = 2

// RuntimeSettingsLevel is the feature level from which on a function's environment may
// have the variables that say how its runtime treats it. Nodes of level 1 refuse all
// that begin with COVEY_, so that a command which only some accept would part the
// replicas.
const RuntimeSettingsLevel uint32 = 2

// GuaranteesLevel is the feature level from which on a version may have reserved and
// provisioned concurrency and a rate: older nodes would not keep to them.
const GuaranteesLevel uint32 = 3

// PlacementLevel is the feature level from which on nodes may have labels, and versions
// may ask for them and for affinity: older nodes would place them anywhere.
const PlacementLevel uint32 = 3

// maxCommandBytes bounds one entry; the log is no place for payloads.
const maxCommandBytes = 4 << 20

// Store applies commands in log order and publishes a View after each. Apply
// and Restore are called by one goroutine at a time (the Raft library's, or an
// observer's); View and Halted by anyone.
type Store struct {
	view atomic.Pointer[View]

	// mu makes wrong use of Apply slow instead of dangerous.
	mu sync.Mutex
	// halted is why nothing is applied any more; written under mu.
	halted atomic.Pointer[HaltError]
}

// New returns an empty store, at index 0 and not founded.
func New() *Store {
	s := new(Store)
	s.view.Store(newView())
	return s
}

// View returns the state after the last command. It never blocks.
func (s *Store) View() *View { return s.view.Load() }

// Halted returns why the store stopped applying, or nil. Only Restore of a
// readable snapshot, or a newer release, ends it.
func (s *Store) Halted() error {
	if h := s.halted.Load(); h != nil {
		return h
	}
	return nil
}

// Encode returns a command as log entries hold it. The caller fills level, time
// and id.
func Encode(cmd *clusterpb.Command) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if len(data) > maxCommandBytes {
		return nil, fmt.Errorf("encode command: %d bytes, at most %d are allowed", len(data), maxCommandBytes)
	}
	return data, nil
}

// Apply applies one log entry. An expected "no" is a Refusal in the result, not
// an error. A *HaltError means that the entry cannot be read: nothing changed,
// and every later Apply returns the same. ErrIndex means that the index is not
// above the last one; nothing changed, and the store goes on.
func (s *Store) Apply(index Index, data []byte) (*clusterpb.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.halted.Load(); h != nil {
		return nil, h
	}
	base := s.view.Load()
	if index <= base.index {
		return nil, fmt.Errorf("apply command %d after %d: %w", index, base.index, ErrIndex)
	}
	cmd, halt := decode(index, data)
	if halt != nil {
		s.halted.Store(halt)
		return nil, halt
	}
	var next *View
	var res *clusterpb.Result
	if halt = guard(index, func() { next, res = base.apply(index, cmd) }); halt != nil {
		s.halted.Store(halt)
		return nil, halt
	}
	s.view.Store(next)
	return res, nil
}

// guard turns a panic into a halt. Every node would meet it again after a
// restart, so a crash would be a crash loop of the whole cluster; halting keeps
// the nodes up for reads, and the unfinished view is never published.
func guard(index Index, work func()) (halt *HaltError) {
	defer func() {
		if r := recover(); r != nil {
			halt = &HaltError{Index: index, Err: fmt.Errorf("broken invariant: %v", r)}
		}
	}()
	work()
	return nil
}

// decode reads an entry completely or not at all. An unknown field is a newer
// release's: ignoring it would make replicas differ without a trace.
func decode(index Index, data []byte) (*clusterpb.Command, *HaltError) {
	cmd := new(clusterpb.Command)
	if err := proto.Unmarshal(data, cmd); err != nil {
		return nil, &HaltError{Index: index, Err: fmt.Errorf("%w: %w", ErrUndecodable, err)}
	}
	level := max(cmd.GetLevel(), cmd.GetRaiseFeatureLevel().GetFeatureLevel(), cmd.GetFoundCluster().GetFeatureLevel())
	if level > FeatureLevel {
		return nil, &HaltError{Index: index, Level: level, Err: ErrTooNew}
	}
	if path := unknownField(cmd.ProtoReflect()); path != "" {
		return nil, &HaltError{Index: index, Err: fmt.Errorf("%w: unknown field in %s", ErrTooNew, path)}
	}
	if cmd.GetOp() == nil {
		return nil, &HaltError{Index: index, Err: fmt.Errorf("%w: no operation", ErrUndecodable)}
	}
	return cmd, nil
}

// unknownField names a message that has fields this release does not know, at
// any depth, or returns "".
func unknownField(m protoreflect.Message) (name string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().FullName())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap(): // Maps here hold strings only.
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				if name = unknownField(v.List().Get(i).Message()); name != "" {
					return false
				}
			}
		default:
			name = unknownField(v.Message())
		}
		return name == ""
	})
	return name
}
