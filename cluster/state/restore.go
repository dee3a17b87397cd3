package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// Restore replaces the state by a snapshot and ends a halt. If the snapshot is
// damaged, cut short or written by a newer release it returns a *HaltError (or
// the reader's error) and the state stays as it was; whether to go on from there
// is the caller's decision.
func (s *Store) Restore(r io.Reader) error {
	v, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.Store(v)
	s.halted.Store(nil)
	return nil
}

// ReadSnapshot reads a snapshot into a view of its own, as `restore` and
// `recover` do to look before they act.
func ReadSnapshot(r io.Reader) (*View, error) {
	d := &snapshotReader{r: bufio.NewReader(r), sum: sha256.New()}
	v, err := d.read()
	if err != nil {
		return nil, fmt.Errorf("read state snapshot: %w", err)
	}
	return v, nil
}

// Refound returns the state of a backup as the beginning of another cluster:
// with a new id, at index 0 and without everything that belongs to the old
// nodes (members, tombstones, assignments, reservations, join tokens, usage marks, remembered
// outcomes). Apps, functions, limits, API tokens and usage stay. Access keys go
// too: the key that opens their secrets is the old cluster's and in no backup.
func (v *View) Refound(id ClusterID) *View {
	next := newView()
	next.timeMs, next.clusterID, next.level = v.timeMs, id, v.level
	next.apps, next.functions, next.retired, next.usage = v.apps, v.functions, v.retired, v.usage
	for k := range all(v.tokens, "") {
		if k.Kind == clusterpb.TokenKind_TOKEN_KIND_API {
			draft{next}.setToken(k)
		}
	}
	return next
}

type snapshotReader struct {
	r   *bufio.Reader
	sum hash.Hash
	// pending is the encoding of the last record, which joins the sum only when
	// the next one shows that it was not the trailer.
	pending []byte
}

// read goes from header to trailer. Nothing of the view is used before the
// trailer has shown that the stream is whole.
func (d *snapshotReader) read() (*View, error) {
	rec, err := d.next()
	if err != nil {
		return nil, err
	}
	head := rec.GetHeader()
	switch {
	case head == nil:
		return nil, &HaltError{Err: fmt.Errorf("%w: no header", ErrUndecodable)}
	case head.GetFormat() > snapshotFormat:
		return nil, &HaltError{Err: fmt.Errorf("%w: format %d", ErrTooNew, head.GetFormat())}
	case head.GetFeatureLevel() > FeatureLevel:
		return nil, &HaltError{Level: head.GetFeatureLevel(), Err: ErrTooNew}
	}
	v := newView()
	v.index, v.timeMs = Index(head.GetIndex()), max(0, head.GetTimeUnixMs())
	v.clusterID, v.level = ClusterID(head.GetClusterId()), head.GetFeatureLevel()
	if err := unknownIn(rec); err != nil {
		return nil, err
	}
	for count := uint64(0); ; count++ {
		d.sum.Write(d.pending)
		if rec, err = d.next(); err != nil {
			return nil, err
		}
		if t := rec.GetTrailer(); t != nil {
			if t.GetRecords() != count || !bytes.Equal(t.GetSha256(), d.sum.Sum(nil)) {
				return nil, &HaltError{Err: fmt.Errorf("%w: checksum differs", ErrUndecodable)}
			}
			return v, nil
		}
		if err := unknownIn(rec); err != nil {
			return nil, err
		}
		if err := (draft{v}).load(rec); err != nil {
			return nil, err
		}
	}
}

// next reads one record and keeps its bytes for the sum.
func (d *snapshotReader) next() (*clusterpb.SnapshotRecord, error) {
	tee := &recorder{r: d.r, buf: d.pending[:0]}
	rec := new(clusterpb.SnapshotRecord)
	err := protodelim.UnmarshalOptions{MaxSize: maxRecordBytes}.UnmarshalFrom(tee, rec)
	d.pending = tee.buf
	switch {
	case err == nil:
		return rec, nil
	// The reader's own failures come after the end of the stream, which the
	// decoder reports in two ways.
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &HaltError{Err: fmt.Errorf("%w: it is cut short", ErrUndecodable)}
	case tee.err != nil:
		return nil, tee.err
	}
	return nil, &HaltError{Err: fmt.Errorf("%w: %w", ErrUndecodable, err)}
}

// recorder keeps what is read through it, and the reader's own error apart from
// the decoder's.
type recorder struct {
	r   *bufio.Reader
	buf []byte
	err error
}

func (t *recorder) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.buf = append(t.buf, p[:n]...)
	t.err = err
	return n, err
}

func (t *recorder) ReadByte() (byte, error) {
	b, err := t.r.ReadByte()
	if err == nil {
		t.buf = append(t.buf, b)
	}
	t.err = err
	return b, err
}

// unknownIn refuses fields of a newer release: dropping them here would lose
// them from the next snapshot, and this replica would differ.
func unknownIn(rec *clusterpb.SnapshotRecord) error {
	if name := unknownField(rec.ProtoReflect()); name != "" {
		return &HaltError{Err: fmt.Errorf("%w: unknown field in %s", ErrTooNew, name)}
	}
	return nil
}

// load puts one record into its table. It checks what the code elsewhere relies
// on, so that a damaged snapshot cannot make a later command panic.
func (d draft) load(rec *clusterpb.SnapshotRecord) error {
	switch r := rec.GetRecord().(type) {
	case *clusterpb.SnapshotRecord_Member:
		d.setMember(memberFromPB(r.Member))
	case *clusterpb.SnapshotRecord_Removed:
		t := &Tombstone{
			ID: NodeID(r.Removed.GetId()), Name: r.Removed.GetName(), Removed: fromMillis(r.Removed.GetRemovedUnixMs()),
		}
		d.removed, _, _ = d.removed.Insert([]byte(t.ID), t)
	case *clusterpb.SnapshotRecord_App:
		a := appFromPB(r.App)
		d.apps, _, _ = d.apps.Insert([]byte(a.Name), a)
	case *clusterpb.SnapshotRecord_Function:
		return d.loadFunction(r.Function)
	case *clusterpb.SnapshotRecord_Retired:
		key := FunctionKey{App: AppName(r.Retired.GetApp()), Name: FunctionName(r.Retired.GetName())}
		last := VersionNumber(r.Retired.GetLastVersion())
		d.retired, _, _ = d.retired.Insert(functionKey(key), &retired{key: key, last: last})
	case *clusterpb.SnapshotRecord_Assignment:
		d.setAssignment(assignmentFromPB(r.Assignment))
	case *clusterpb.SnapshotRecord_Reservation:
		d.setReservation(reservationFromPB(r.Reservation))
	case *clusterpb.SnapshotRecord_Token:
		d.setToken(tokenFromPB(r.Token))
	case *clusterpb.SnapshotRecord_Usage:
		s := spanFromPB(r.Usage)
		d.usage, _, _ = d.usage.Insert(usageKey(s), s)
	case *clusterpb.SnapshotRecord_UsageMark:
		m := &usageMark{node: NodeID(r.UsageMark.GetNode()), boot: r.UsageMark.GetBoot(), seq: r.UsageMark.GetSeq()}
		d.marks, _, _ = d.marks.Insert(markKey(m.node, m.boot), m)
	case *clusterpb.SnapshotRecord_Outcome:
		if r.Outcome.GetResult() == nil {
			return &HaltError{Err: fmt.Errorf("%w: an outcome without a result", ErrUndecodable)}
		}
		d.remember(&outcome{id: r.Outcome.GetId(), timeMs: r.Outcome.GetTimeUnixMs(), result: r.Outcome.GetResult()})
	default:
		return &HaltError{Err: fmt.Errorf("%w: record of type %T", ErrUndecodable, r)}
	}
	return nil
}

// loadFunction checks what lookups rely on: order for binary search, a version
// for Newest, and that no alias leads nowhere.
func (d draft) loadFunction(p *clusterpb.Function) error {
	f := functionFromPB(p)
	ok := len(f.Versions) > 0 && f.Alias(Live) != nil
	for i, v := range f.Versions {
		ok = ok && v.Config != nil && v.Key.Number <= f.LastVersion && (i == 0 || f.Versions[i-1].Key.Number < v.Key.Number)
	}
	for i, a := range f.Aliases {
		ok = ok && f.Version(a.Version) != nil && (a.Other == 0 || f.Version(a.Other) != nil) &&
			(i == 0 || f.Aliases[i-1].Name < a.Name)
	}
	if !ok {
		return &HaltError{Err: fmt.Errorf("%w: function %q is not whole", ErrUndecodable, f.Key())}
	}
	d.setFunction(f)
	return nil
}
