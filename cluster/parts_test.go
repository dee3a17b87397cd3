package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/group"
	"github.com/covey-dev/covey/cluster/state"
)

// delimited returns a stream of one record.
func delimited(t *testing.T, m proto.Message) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	if _, err := protodelim.MarshalTo(&b, m); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestReadsShareTheNextRoundOnly: a read never gets the answer to a question that
// was asked before it came.
func TestReadsShareTheNextRoundOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		b := newReadBatch(func(context.Context) (state.Index, error) {
			n := asked.Add(1)
			time.Sleep(10 * time.Millisecond) // Virtual: a round to the majority.
			return state.Index(n), nil
		})
		var wg sync.WaitGroup
		read := func(least int64) {
			wg.Go(func() {
				if got, err := b.get(t.Context()); err != nil || int64(got) < least {
					t.Errorf("read answered by round %d (%v), want %d or later", got, err, least)
				}
			})
		}
		read(1)
		synctest.Wait()
		for range 100 { // They come during round 1, so they need round 2.
			read(2)
		}
		wg.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("%d rounds for 101 reads, want 2", n)
		}
		read(3)
		wg.Wait()
	})
}

func TestReadThatGivesUpPassesItsTurnOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newReadBatch(func(ctx context.Context) (state.Index, error) {
			time.Sleep(time.Second)
			return 1, ctx.Err()
		})
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = b.get(t.Context()) })
		synctest.Wait()
		wg.Go(func() {
			if _, err := b.get(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("read that gave up: %v", err)
			}
		})
		wg.Wait()
		if _, err := b.get(t.Context()); err != nil {
			t.Errorf("read after it: %v", err)
		}
	})
}

func TestErrorsKeepTheirMeaningBetweenNodes(t *testing.T) {
	t.Parallel()
	for _, k := range errorKinds() {
		sent := fmt.Errorf("do something: %w", k.err)
		got := fromStatus(toStatus(sent))
		if !errors.Is(got, k.err) || got.Error() != sent.Error() {
			t.Errorf("%v arrives as %v", sent, got)
		}
		// A node in between passes it on unchanged.
		if again := fromStatus(toStatus(got)); !errors.Is(again, k.err) {
			t.Errorf("%v arrives at the second node as %v", sent, again)
		}
	}
	got, ok := errors.AsType[*notLeaderError](fromStatus(toStatus(&notLeaderError{leader: "n7"})))
	if !ok || got.leader != "n7" {
		t.Errorf("hint at the leader is lost: %v", got)
	}
	if retry, sent := proposalFailed(fromStatus(toStatus(fmt.Errorf("ask: %w", ErrClosed)))); !retry || sent {
		t.Errorf("another node closes: retry %v, perhaps sent %v; want a retry of what was not sent", retry, sent)
	}
	if code := status.Code(toStatus(errors.New("disk on fire"))); code != codes.Internal {
		t.Errorf("unknown error has code %v", code)
	}
	if code := status.Code(toStatus(fmt.Errorf("wait: %w", context.DeadlineExceeded))); code != codes.DeadlineExceeded {
		t.Errorf("deadline has code %v", code)
	}
	if fromStatus(nil) != nil || toStatus(nil) != nil {
		t.Error("no error became one")
	}
}

func TestOutcomeOfAFailedProposal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		err         error
		retry, sent bool
	}{
		{"not leader", &notLeaderError{}, true, false},
		{"lost on the way", fromGroup(fmt.Errorf("x: %w", group.ErrOutcomeUnknown)), true, true},
		{"overloaded", fromGroup(group.ErrOverloaded), false, false},
		{"disk full", fromGroup(group.ErrDiskLow), false, false},
		{"too large", fromGroup(group.ErrTooLarge), false, false},
		{"connection refused", fmt.Errorf("x: %w", ErrUnreachable), true, false},
		{"broken connection", status.Error(codes.Unavailable, "x"), true, true},
		{"timeout", status.Error(codes.DeadlineExceeded, "x"), true, true},
		{"other release", status.Error(codes.Unimplemented, "x"), false, false},
	}
	for _, tt := range tests {
		if retry, sent := proposalFailed(tt.err); retry != tt.retry || sent != tt.sent {
			t.Errorf("%s: retry %v, sent %v; want %v, %v", tt.name, retry, sent, tt.retry, tt.sent)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	machine := machineAddress()
	tests := []struct{ bind, advertise, bound, want string }{
		{"127.0.0.1:0", "", "127.0.0.1:4242", "127.0.0.1:4242"},
		{":7071", "", "[::]:7071", net.JoinHostPort(machine, "7071")},
		{":7071", "node-a", "[::]:7071", "node-a:7071"},
		{":7071", "node-a:0", "[::]:7071", "node-a:7071"},
		{":7071", "1.2.3.4:99", "[::]:7071", "1.2.3.4:99"},
	}
	for _, tt := range tests {
		bound, err := net.ResolveTCPAddr("tcp", tt.bound)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (Endpoint{tt.bind, tt.advertise}).Advertised(bound); err != nil || got != tt.want {
			t.Errorf("%+v gives %q, %v; want %q", tt, got, err, tt.want)
		}
	}
	if _, err := (Endpoint{Advertise: "a:b:c:d"}).Advertised(&net.TCPAddr{}); err == nil {
		t.Error("nonsense is advertised")
	}
}

func TestMedianOfClocks(t *testing.T) {
	t.Parallel()
	s := time.Second
	tests := []struct {
		name   string
		others []time.Duration
		want   time.Duration
	}{
		{"all agree", []time.Duration{0, 0}, 0},
		{"this one is behind", []time.Duration{9 * s, 9 * s}, 9 * s},
		{"another one is behind", []time.Duration{-9 * s, 0}, 0},
		{"two of five are wrong", []time.Duration{-9 * s, 9 * s, 0, s}, 0},
		{"two nodes", []time.Duration{4 * s}, 2 * s},
	}
	for _, tt := range tests {
		if got := medianOffset(tt.others); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestPauseGrowsToItsCapAndEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPause(100*time.Millisecond, time.Second)
		for i := range 10 {
			start := time.Now()
			p.wait(t.Context())
			least := min(100*time.Millisecond<<i, time.Second) / 2
			if took := time.Since(start); took < least || took > 2*least {
				t.Errorf("wait %d took %v, want between %v and %v", i, took, least, 2*least)
			}
		}
		p.reset()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if start := time.Now(); p.wait(ctx) || time.Since(start) != 0 {
			t.Error("wait goes on after the context ended")
		}
	})
}

func TestDataDirKeepsWhoTheNodeIs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.identity(); !errors.Is(err, ErrNotFounded) {
		t.Errorf("empty directory: %v, want ErrNotFounded", err)
	}
	want := identity{Format: dirFormat, ID: "n", Cluster: "c", Created: time.Unix(1, 0).UTC()}
	if err := d.setIdentity(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.identity()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("identity differs: %v\n%s", err, diff)
	}
	for want := range uint64(3) {
		if boot, err := d.nextBoot(); err != nil || boot != want+1 {
			t.Errorf("boot %d, %v; want %d", boot, err, want+1)
		}
	}
	peers := []knownPeer{{ID: "p", Peer: "a:1", Gossip: "a:2"}}
	if err := d.setPeers(peers); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(peers, d.peers()); diff != "" {
		t.Errorf("peers differ:\n%s", diff)
	}
	for file, data := range map[string]string{
		identityFile: `{"format": 99, "id": "n", "cluster": "c"}`, bootFile: "many", peersFile: "[",
	} {
		if err := os.WriteFile(filepath.Join(path, file), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.identity(); err == nil || errors.Is(err, ErrNotFounded) {
		t.Errorf("identity of a newer format: %v", err)
	}
	if _, err := d.nextBoot(); err == nil {
		t.Error("damaged boot number starts again at 1: the highest boot would lose")
	}
	if len(d.peers()) != 0 {
		t.Error("damaged peers are read")
	}
}

func TestPendingCommandsRoundTrip(t *testing.T) {
	t.Parallel()
	d, err := openDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, ok, err := d.pending(); ok || err != nil {
		t.Errorf("pending in an empty directory: %v, %v", ok, err)
	}
	if err := d.setPending([]*clusterpb.Command{{Id: "a"}, {Id: "b"}}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := d.pending()
	if err != nil || !ok || len(got) != 2 || got[1].GetId() != "b" {
		t.Errorf("pending reads back as %v, %v, %v", got, ok, err)
	}
	for range 2 {
		if err := d.clearPending(); err != nil {
			t.Error(err)
		}
	}
	if d.founding() {
		t.Error("still founding")
	}
}

func TestFeatureLevelIsTheLeastOfAll(t *testing.T) {
	t.Parallel()
	m := testMachine(t, t.TempDir())
	apply(t, m, 1, foundCommand(t))
	if got := commonLevel(m.View()); got != state.FeatureLevel {
		t.Errorf("without members %d", got)
	}
	apply(t, m, 2, encoded(t, &clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{
		Member: &clusterpb.Member{Id: "n", FeatureLevel: state.FeatureLevel + 3},
	}}}))
	if got := commonLevel(m.View()); got != state.FeatureLevel {
		t.Errorf("with a newer member %d, want %d", got, state.FeatureLevel)
	}
}

func TestConfigReportsEveryProblem(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Clock, cfg.Peer.Bind, cfg.Timings.Renew = nil, "nonsense", 0
	err := cfg.Validate()
	for _, field := range []string{"DataDir", "Clock", "Peer.Bind", "Timings.Renew"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(field)) {
			t.Errorf("%s is not reported: %v", field, err)
		}
	}
	if _, err := Open(cfg); err == nil {
		t.Error("bad configuration opened")
	}
}
