package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testReplace = 30 * time.Second

// cluster parses nodes such as "a:V* b:V! c:S d:O": role Voter, Standby or
// Observer; * leads, ! is silent for long, ? is silent for a moment, ~ is to be
// avoided, # was removed, + is healthy but new.
func cluster(text string) []candidate {
	var all []candidate
	for _, word := range strings.Fields(text) {
		id, what, _ := strings.Cut(word, ":")
		c := candidate{Server: Server{ID: NodeID(id)}, known: true, healthy: true, stable: true}
		c.role = map[byte]Role{'V': Voter, 'S': Standby, 'O': Observer}[what[0]]
		for _, mark := range what[1:] {
			switch mark {
			case '*':
				c.leader = true
			case '!':
				c.healthy, c.stable, c.silent = false, false, testReplace
			case '?':
				c.healthy, c.stable, c.silent = false, false, time.Second
			case '+':
				c.stable = false
			case '~':
				c.Avoid = true
			case '#':
				c.known = false
			}
		}
		all = append(all, c)
	}
	return all
}

func TestPlanVotes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, nodes     string
		promote, demote string
	}{
		{"one node", "a:V*", "", ""},
		{"at two nodes one copy votes", "a:V* b:S", "", ""},
		{"three nodes are promoted as a pair", "a:V* b:S c:S", "b c", ""},
		{"half a pair waits", "a:V* b:S c:O", "", ""},
		{"a new standby is not promoted yet", "a:V* b:S c:S+", "", ""},
		{"an interrupted pair is completed", "a:V* b:V c:S", "c", ""},
		{"an interrupted pair without its half goes back", "a:V* b:V c:S!", "", "b"},
		{"three of six", "a:V* b:V c:V d:S e:S f:O", "", ""},
		{"seven nodes: two more", "a:V* b:V c:V d:S e:S f:O g:O", "d e", ""},
		{"six nodes again: two fewer", "a:V* b:V c:V d:V e:V f:S", "", "e d"},
		{"a silent voter without a standby keeps its vote", "a:V* b:V c:V!", "", ""},
		{"a silent voter is replaced", "a:V* b:V c:V! d:S", "d", "c"},
		{"a short silence changes nothing", "a:V* b:V c:V? d:S", "", ""},
		{"a silent standby replaces nobody", "a:V* b:V c:V! d:S!", "", ""},
		{"two silent voters, one standby", "a:V* b:V c:V d:V! e:V! f:S g:O", "f", "e"},
		{"an avoided voter is replaced", "a:V* b:V~ c:V d:S", "d", "b"},
		{"an avoided voter that is needed stays", "a:V* b:V~ c:V", "", ""},
		{"an avoided leader hands over first", "a:V*~ b:V c:V d:S", "", ""},
		{"a removed voter of four", "a:V* b:V c:V# d:S", "d", "c"},
		{"a removed voter of three leaves one", "a:V* b:V c:V#", "", "c b"},
		{"the dead goes before the living", "a:V* b:V! c:V#", "", "b c"},
		{"a removed voter waits for a stable standby", "a:V* b:V c:V!# d:S+", "", ""},
		{"removed voters that live hold the majority", "a:V* b:V c:V! d:V! e:V! f:V# g:V# h:O! i:O!", "", "e d"},
		{"a removed voter is replaced", "a:V* b:V c:V!# d:S", "d", "c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			promote, demote := planVotes(cluster(tt.nodes), testReplace)
			if got := words(promote); got != tt.promote {
				t.Errorf("promotes %q, want %q", got, tt.promote)
			}
			if got := words(demote); got != tt.demote {
				t.Errorf("demotes %q, want %q", got, tt.demote)
			}
		})
	}
}

func TestPlanStandbys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, nodes string
		remove, add string
	}{
		{"nobody to add", "a:V*", "", ""},
		{"the second node stands by", "a:V* b:O", "", "b"},
		{"one at a time", "a:V* b:O c:O d:O", "", "b"},
		{"unreachable nodes are not added", "a:V* b:O? c:O d:O", "", "c"},
		{"a silent standby stays while nobody is reachable", "a:V* b:V c:V d:S! e:S f:O?", "", ""},
		{"not more than there are nodes", "a:V* b:V c:V", "", ""},
		{"at most two", "a:V* b:V c:V d:S e:S f:O", "", ""},
		{"avoided nodes are not added", "a:V* b:O~ c:O", "", "c"},
		{"too many after a shrink: the worst goes", "a:V* b:V c:V d:S e:S! f:S", "e", ""},
		{"a silent standby gives way", "a:V* b:V c:V d:S e:S! f:O", "e", ""},
		{"a silent standby nobody could replace stays", "a:V* b:V c:V d:S!", "", ""},
		{"an avoided standby gives way", "a:V* b:V c:V d:S~ e:S f:O", "d", ""},
		{"a removed member is autopilot's", "a:V* b:S#", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			remove, add := planStandbys(cluster(tt.nodes), testReplace)
			if string(remove) != tt.remove || string(add) != tt.add {
				t.Errorf("removes %q and adds %q, want %q and %q", remove, add, tt.remove, tt.add)
			}
		})
	}
}

func TestSuccessorOnlyOfAnAvoidedLeader(t *testing.T) {
	t.Parallel()
	for nodes, want := range map[string]NodeID{
		"a:V* b:V c:V":    "",
		"a:V*~ b:V? c:V":  "c",
		"a:V*~ b:V~ c:V!": "",
		"a:V*~ b:S c:S":   "",
	} {
		if got := successor(cluster(nodes)); got != want {
			t.Errorf("%s: successor %q, want %q", nodes, got, want)
		}
	}
}

func words(ids []NodeID) string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return strings.Join(out, " ")
}

// TestVotesSettle applies plans to random clusters until nothing changes and
// checks what must hold then, and on the way.
func TestVotesSettle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawCluster(t)
		for round := 0; ; round++ {
			if round > 60 {
				t.Fatalf("never settles: %+v", all)
			}
			promote, demote := planVotes(all, testReplace)
			remove, add := planStandbys(all, testReplace)
			stale := slices.ContainsFunc(all, func(c candidate) bool { return !c.known && c.role == Standby })
			if len(promote)+len(demote) == 0 && remove == "" && add == "" && !stale {
				break
			}
			// Autopilot's order: one failed voter, the promotions, the other demotions.
			change := func(id NodeID, role Role) {
				had := safe(votersOf(all), aliveIn(all))
				assign(all, []NodeID{id}, role)
				if had && !safe(votersOf(all), aliveIn(all)) {
					t.Fatalf("making %s a %s loses the majority: %+v", id, role, all)
				}
			}
			if i := slices.IndexFunc(demote, func(id NodeID) bool { return !aliveIn(all)(id) }); i >= 0 && len(votersOf(all))%2 == 1 {
				change(demote[i], Standby)
				demote = slices.Delete(demote, i, i+1)
			}
			for _, id := range promote {
				change(id, Voter)
			}
			for _, id := range demote {
				change(id, Standby)
			}
			if n := len(votersOf(all)); n%2 == 0 {
				t.Fatalf("rests on %d voters: %+v", n, all)
			}
			if slices.Contains(demote, "n0") {
				t.Fatal("the leader loses its vote")
			}
			remove, add = planStandbys(all, testReplace)
			assign(all, []NodeID{remove}, Observer)
			assign(all, []NodeID{add}, Standby)
			all = slices.DeleteFunc(all, func(c candidate) bool { return !c.known && c.role == Standby })
		}
		wanted, known := votersWanted(countKnown(all)), countKnown(all)
		if n := len(votersOf(all)); n > wanted || n%2 == 0 {
			t.Fatalf("%d voters for %d nodes", n, known)
		}
		if n := countRole(all, Standby); n > standbysMax {
			t.Fatalf("%d standbys", n)
		}
		if !slices.ContainsFunc(all, func(c candidate) bool { return !c.stable || c.Avoid || !c.known }) {
			if n := countRole(all, Voter); n != wanted {
				t.Fatalf("%d voters for %d good nodes, want %d: %+v", n, known, wanted, all)
			}
			if n := countRole(all, Standby); n != min(standbysMax, known-wanted) {
				t.Fatalf("%d standbys for %d good nodes", n, known)
			}
		}
	})
}

func drawCluster(t *rapid.T) []candidate {
	n := rapid.IntRange(1, 12).Draw(t, "nodes")
	sick := rapid.Bool().Draw(t, "sick")
	all := make([]candidate, n)
	for i := range all {
		c := candidate{Server: Server{ID: NodeID(fmt.Sprintf("n%d", i))}, known: true, healthy: true, stable: true}
		c.role = rapid.SampledFrom([]Role{Observer, Standby, Voter}).Draw(t, "role")
		if i == 0 {
			c.role, c.leader = Voter, true
		} else if sick {
			switch rapid.IntRange(0, 5).Draw(t, "state") {
			case 0:
				c.healthy, c.stable, c.silent = false, false, testReplace
			case 1:
				c.Avoid = true
			case 2:
				c.known = c.role == Observer // removed by the operator
			}
		}
		all[i] = c
	}
	return all
}

func votersOf(all []candidate) []NodeID {
	var out []NodeID
	for _, c := range all {
		if c.role == Voter {
			out = append(out, c.ID)
		}
	}
	return out
}

func aliveIn(all []candidate) func(NodeID) bool {
	return func(id NodeID) bool {
		return slices.ContainsFunc(all, func(c candidate) bool { return c.ID == id && c.healthy })
	}
}

func assign(all []candidate, who []NodeID, role Role) {
	for i := range all {
		if slices.Contains(who, all[i].ID) {
			all[i].role = role
		}
	}
}

func countRole(all []candidate, role Role) int {
	n := 0
	for _, c := range all {
		if c.role == role && c.known {
			n++
		}
	}
	return n
}
