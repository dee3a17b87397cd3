package state

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// snapshotFormat is the newest stream format that this release reads, and the
// one that it writes.
const snapshotFormat = 1

// maxRecordBytes bounds what a damaged length can make a reader allocate.
const maxRecordBytes = 32 << 20

// Snapshot writes the view as a stream: a header, records in a fixed order, a
// trailer with their count and SHA-256. Equal views write equal bytes.
func (v *View) Snapshot(w io.Writer) error {
	buf := bufio.NewWriter(w)
	s := &snapshotWriter{w: buf, sum: sha256.New()}
	s.put(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Header{Header: &clusterpb.SnapshotHeader{
		Format: snapshotFormat, FeatureLevel: v.level, ClusterId: string(v.clusterID),
		Index: uint64(v.index), TimeUnixMs: v.timeMs,
	}}})
	// The header is not counted: it says nothing about what follows.
	s.records = 0
	for rec := range v.records {
		s.put(rec)
	}
	s.put(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Trailer{Trailer: &clusterpb.SnapshotTrailer{
		Records: s.records, Sha256: s.sum.Sum(nil),
	}}})
	if err := errors.Join(s.err, buf.Flush()); err != nil {
		return fmt.Errorf("write state snapshot: %w", err)
	}
	return nil
}

// Hash returns the SHA-256, in hexadecimal, of what Snapshot writes. Replicas of
// one release at the same index have the same hash. It reads the whole state:
// ask for it rarely.
func (v *View) Hash() string {
	sum := sha256.New()
	// Writing to a hash cannot fail, and a view holds only what was decoded.
	if err := v.Snapshot(sum); err != nil {
		panic(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// records yields everything but header and trailer, table by table in key order.
func (v *View) records(yield func(*clusterpb.SnapshotRecord) bool) {
	for m := range all(v.members, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Member{Member: m.toPB()}}) {
			return
		}
	}
	for t := range all(v.removed, "") {
		p := &clusterpb.RemovedMember{Id: string(t.ID), Name: t.Name, RemovedUnixMs: millis(t.Removed)}
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Removed{Removed: p}}) {
			return
		}
	}
	for a := range all(v.apps, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_App{App: a.toPB()}}) {
			return
		}
	}
	for f := range all(v.functions, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Function{Function: f.toPB()}}) {
			return
		}
	}
	for r := range all(v.retired, "") {
		p := &clusterpb.RetiredFunction{App: string(r.key.App), Name: string(r.key.Name), LastVersion: uint64(r.last)}
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Retired{Retired: p}}) {
			return
		}
	}
	v.smallRecords(yield)
}

// smallRecords yields the tables of small rows.
func (v *View) smallRecords(yield func(*clusterpb.SnapshotRecord) bool) {
	for a := range all(v.assignments, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Assignment{Assignment: a.PB()}}) {
			return
		}
	}
	for r := range all(v.reservations, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Reservation{Reservation: r.toPB()}}) {
			return
		}
	}
	for k := range all(v.tokens, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Token{Token: k.toPB()}}) {
			return
		}
	}
	for s := range all(v.usage, "") {
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Usage{Usage: s.toPB()}}) {
			return
		}
	}
	for m := range all(v.marks, "") {
		p := &clusterpb.UsageMark{Node: string(m.node), Boot: m.boot, Seq: m.seq}
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_UsageMark{UsageMark: p}}) {
			return
		}
	}
	for o := range all(v.recent, "") {
		p := &clusterpb.Outcome{Id: o.id, TimeUnixMs: o.timeMs, Result: o.result}
		if !yield(&clusterpb.SnapshotRecord{Record: &clusterpb.SnapshotRecord_Outcome{Outcome: p}}) {
			return
		}
	}
}

// snapshotWriter keeps the first error, so that its caller reads as a list.
type snapshotWriter struct {
	w       io.Writer
	sum     hash.Hash
	records uint64
	err     error
}

// put writes one record with its length before it. Deterministic encoding sorts
// maps, without which equal states would write different bytes.
func (s *snapshotWriter) put(rec *clusterpb.SnapshotRecord) {
	if s.err != nil {
		return
	}
	s.records++
	opts := protodelim.MarshalOptions{MarshalOptions: proto.MarshalOptions{Deterministic: true}}
	_, s.err = opts.MarshalTo(io.MultiWriter(s.w, s.sum), rec)
}
