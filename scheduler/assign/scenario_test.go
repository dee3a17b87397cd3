package assign

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// scenario is a cluster on paper: a store, a clock, and who was heard from.
type scenario struct {
	store *state.Store
	index state.Index
	now   time.Time
	// silent holds since when a node has not been heard from.
	silent map[state.NodeID]time.Time
	waits  waits
	// settled holds what nodes say that they gave up.
	settled map[wait]bool
}

func newScenario() *scenario {
	s := &scenario{store: state.New(), now: time.UnixMilli(1_790_000_000_000), silent: map[state.NodeID]time.Time{}, settled: map[wait]bool{}}
	s.waits.said = func(fn state.FunctionKey, node state.NodeID, since state.Index) bool {
		return s.settled[wait{fn, node, since}]
	}
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_FoundCluster{
		FoundCluster: &clusterpb.FoundCluster{ClusterId: "c", FeatureLevel: state.FeatureLevel},
	}})
	if err != nil {
		panic(err)
	}
	return s
}

// do applies a command and returns a refusal as an error.
func (s *scenario) do(cmd *clusterpb.Command) (*clusterpb.Result, error) {
	cmd.Level, cmd.TimeUnixMs = 1, s.now.UnixMilli()
	data, err := state.Encode(cmd)
	if err != nil {
		return nil, err
	}
	s.index++
	res, err := s.store.Apply(s.index, data)
	if err != nil {
		return nil, err
	}
	return res, state.Refused(res)
}

func (s *scenario) live() map[state.NodeID]Liveness {
	live := map[state.NodeID]Liveness{}
	for _, m := range s.store.View().Members() {
		live[m.ID] = Liveness{LastContact: s.now}
		if since, ok := s.silent[m.ID]; ok {
			live[m.ID] = Liveness{LastContact: since}
		}
	}
	return live
}

func (s *scenario) plan() []Change { return Plan(s.store.View(), s.live(), s.now) }

// commit applies changes and returns what was skipped.
func (s *scenario) commit(changes []Change) ([]string, error) {
	var skipped []string
	for _, cmd := range Commands(changes) {
		res, err := s.do(cmd)
		if err != nil {
			return nil, err
		}
		skipped = append(skipped, res.GetSkipped()...)
	}
	return skipped, nil
}

func (s *scenario) node(id string, arch string, runtimes ...string) error {
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_PutMember{PutMember: &clusterpb.PutMember{Member: &clusterpb.Member{
		Id: id, Os: "linux", Arch: arch, Runtimes: runtimes, FeatureLevel: state.FeatureLevel,
	}}}})
	return err
}

// planReserved plans the shares of reserved concurrency.
func (s *scenario) planReserved() []ReservationChange {
	view := s.store.View()
	s.waits.observe(view, s.now)
	return PlanReservations(view, s.live(), s.now, func(r *state.Reservation, p state.ReservedPlace) bool {
		return s.waits.settled(r, p, s.now)
	})
}

// reserve plans and commits until nothing changes, and shows where the shares are.
func (s *scenario) reserve(t require) string {
	for range 3 {
		changes := s.planReserved()
		for _, cmd := range ReservationCommands(changes) {
			res, err := s.do(cmd)
			if err != nil || len(res.GetSkipped()) > 0 {
				t.Fatalf("a fresh plan of shares was not applied: %v, skipped %q", err, res.GetSkipped())
			}
		}
		if len(changes) == 0 {
			return s.shares()
		}
	}
	t.Fatalf("plans of shares do not come to an end: %+v", s.planReserved())
	return ""
}

// require is what *testing.T and *rapid.T have in common here.
type require interface {
	Fatalf(format string, args ...any)
}

// shares shows every reservation.
func (s *scenario) shares() string {
	var b strings.Builder
	for _, r := range s.store.View().Reservations() {
		fmt.Fprintf(&b, "%s:", r.Function)
		for _, p := range r.Places {
			fmt.Fprintf(&b, " %s %d", p.Node, p.Share)
			if p.Withheld > 0 {
				fmt.Fprintf(&b, "(+%d withheld)", p.Withheld)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// giveUp has a node say that it uses no more than its shares.
func (s *scenario) giveUp(node string) {
	for _, r := range s.store.View().Reservations() {
		if p := r.Place(state.NodeID(node)); p.Withheld > 0 {
			s.settled[wait{r.Function, p.Node, p.Since}] = true
		}
	}
}

// digestOfTests is the code of every version.
var digestOfTests = strings.Repeat("a", 64)

// deploy makes a version; an empty arch means code for every machine.
func (s *scenario) deploy(name, arch string, limit, queue, least uint32) error {
	return s.deployWith(name, arch, limit, queue, least, 0)
}

func (s *scenario) deployWith(name, arch string, limit, queue, least, reserved uint32) error {
	cfg := state.WithDefaults(&clusterpb.VersionConfig{
		Runtime: "go", Max: limit, Queue: proto.Uint32(queue), Min: least, Reserved: reserved,
		Artifacts: []*clusterpb.Artifact{{Arch: arch, Digest: digestOfTests}},
	})
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_Deploy{Deploy: &clusterpb.Deploy{App: "shop", Name: name, Config: cfg}}})
	return err
}

func (s *scenario) drain(id string, on bool) error {
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_SetDraining{SetDraining: &clusterpb.SetDraining{Id: id, Draining: on}}})
	return err
}

func (s *scenario) remove(id string) error {
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Id: id}}})
	return err
}

func (s *scenario) alias(fn, name string, version uint64) error {
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_PutAlias{PutAlias: &clusterpb.PutAlias{
		App: "shop", Function: fn, Alias: &clusterpb.Alias{Name: name, Version: version},
	}}})
	return err
}

func (s *scenario) delete(fn string) error {
	_, err := s.do(&clusterpb.Command{Op: &clusterpb.Command_DeleteFunction{DeleteFunction: &clusterpb.DeleteFunction{App: "shop", Name: fn}}})
	return err
}

func (s *scenario) setSilent(id string, on bool) error {
	if !on {
		delete(s.silent, state.NodeID(id))
	} else if _, ok := s.silent[state.NodeID(id)]; !ok {
		s.silent[state.NodeID(id)] = s.now
	}
	return nil
}

// step runs one line of a transcript and returns its answer.
func (s *scenario) step(t *testing.T, line string) string {
	words := strings.Fields(line)
	args, options := words[1:], map[string]string{}
	args = slices.DeleteFunc(slices.Clone(args), func(w string) bool {
		k, v, ok := strings.Cut(w, "=")
		if ok {
			options[k] = v
		}
		return ok
	})
	number := func(name string, def uint64) uint32 {
		if v, ok := options[name]; ok {
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return uint32(n)
		}
		return uint32(def)
	}
	var err error
	switch words[0] {
	case "node":
		arch, runtime := "amd64", "go"
		if v, ok := options["arch"]; ok {
			arch = v
		}
		if v, ok := options["runtime"]; ok {
			runtime = v
		}
		for _, id := range args {
			if e := s.node(id, arch, runtime); e != nil {
				err = e
			}
		}
	case "deploy":
		err = s.deployWith(args[0], options["arch"], number("max", 0), number("queue", state.DefaultQueue), number("min", 0),
			number("reserved", 0))
	case "alias":
		err = s.alias(args[0], args[1], uint64(number("version", 0)))
	case "delete":
		err = s.delete(args[0])
	case "drain", "undrain":
		err = s.drain(args[0], words[0] == "drain")
	case "remove":
		err = s.remove(args[0])
	case "silent", "heard":
		for _, id := range args {
			err = s.setSilent(id, words[0] == "silent")
		}
	case "wait":
		d, e := time.ParseDuration(args[0])
		s.now, err = s.now.Add(d), e
	case "settled":
		for _, id := range args {
			s.giveUp(id)
		}
	case "reserve":
		return s.reserve(t)
	case "plan":
		return s.describePlan(t)
	case "show":
		var b strings.Builder
		for _, a := range s.store.View().Assignments() {
			b.WriteString(describe(Change{Version: a.Version, Put: a}))
		}
		return b.String()
	default:
		t.Fatalf("no such step: %s", line)
	}
	if err != nil {
		return "refused: " + err.Error() + "\n"
	}
	return ""
}

// describePlan plans, applies the plan and holds every transcript to the rule
// that a second plan is empty.
func (s *scenario) describePlan(t *testing.T) string {
	changes := s.plan()
	skipped, err := s.commit(changes)
	if err != nil || len(skipped) > 0 {
		t.Fatalf("a fresh plan was not applied: %v, skipped %q", err, skipped)
	}
	if again := s.plan(); len(again) > 0 {
		t.Fatalf("planning again changes %v", again)
	}
	if len(changes) == 0 {
		return "no change\n"
	}
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(describe(c))
	}
	return b.String()
}

func describe(c Change) string {
	if c.Put == nil {
		return fmt.Sprintf("%s: drop\n", c.Version)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", c.Version)
	if c.Put.Everywhere {
		b.WriteString(" everywhere")
	}
	for _, p := range c.Put.Places {
		fmt.Fprintf(&b, " %s(max %d queue %d warm %d)", p.Node, p.Max, p.Queue, p.Provisioned)
	}
	return b.String() + "\n"
}
