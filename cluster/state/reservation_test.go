package state

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// reservedLab is a cluster whose function till reserves total executions.
func reservedLab(t *testing.T, total uint32, nodes ...string) *lab {
	t.Helper()
	l := newLab(t)
	for _, n := range nodes {
		l.ok(member(n))
	}
	l.raise(GuaranteesLevel)
	l.ok(deployReserved(total))
	return l
}

func deployReserved(total uint32, change ...func(*clusterpb.VersionConfig)) *clusterpb.Command {
	return deploy("till", append(change, func(c *clusterpb.VersionConfig) { c.Reserved = total })...)
}

var till = FunctionKey{App: "shop", Name: "till"}

// places shows shares and, after a plus, what is withheld.
func (l *lab) places() string {
	l.t.Helper()
	r := l.view().Reservation(till)
	if r == nil {
		return "none"
	}
	var words []string
	for _, p := range r.Places {
		w := fmt.Sprintf("%s:%d", p.Node, p.Share)
		if p.Withheld > 0 {
			w += fmt.Sprintf("+%d", p.Withheld)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func (l *lab) wantPlaces(want string) {
	l.t.Helper()
	if got := l.places(); got != want {
		l.t.Fatalf("places are %q, want %q", got, want)
	}
}

// cut brings the reservation nearer to even shares on some nodes.
func (l *lab) cut(settled bool, nodes ...NodeID) {
	l.t.Helper()
	v := l.view()
	changes := CutReserved(v.Function("shop", "till"), v.Reservation(till), nodes, func(ReservedPlace) bool { return settled })
	res := l.ok(putReservation("till", changes...))
	if len(res.GetSkipped()) > 0 {
		l.t.Fatalf("skipped %q", res.GetSkipped())
	}
	v = l.view()
	if again := CutReserved(v.Function("shop", "till"), v.Reservation(till), nodes, func(ReservedPlace) bool { return false }); len(again) > 0 {
		l.t.Fatalf("cutting again changes %+v", again)
	}
}

func TestFirstDeployCutsItsReservation(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 6, "n1", "n2", "n3")
	l.wantPlaces("n1:2 n2:2 n3:2")
	l.ok(draining("n3", true))
	l.ok(deploy("other", func(c *clusterpb.VersionConfig) { c.Reserved = 1 }))
	if r := l.view().Reservation(FunctionKey{"shop", "other"}); len(r.Places) != 1 || r.Places[0].Node == "n3" {
		t.Fatalf("one execution is cut into %+v", r.Places)
	}
	l.ok(deleteFunction("till"))
	l.wantPlaces("none")
}

func TestShareIsWithheldUntilItIsSettled(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 6, "n1", "n2", "n3")
	l.cut(false, "n1", "n2")
	l.wantPlaces("n1:2 n2:2 n3:0+2")
	since := l.view().Reservation(till).Place("n3").Since
	if since != l.index {
		t.Fatalf("withheld since %d, the command was %d", since, l.index)
	}
	for words, shares := range map[string][]ShareChange{
		"may still be in use elsewhere": {{Node: "n1", Share: 3}},
		"has changed":                   {{Node: "n3", Settled: since - 1}},
		"more shares than reserved":     {{Node: "n1", Share: 9}},
		"two changes for node n1":       {{Node: "n1", Share: 1}, {Node: "n1", Share: 0}},
		"is no member":                  {{Node: "n7", Share: 1}},
	} {
		if got := l.ok(putReservation("till", shares...)).GetSkipped(); len(got) != 1 || !strings.Contains(got[0], words) {
			t.Errorf("%+v: skipped %q, want %q", shares, got, words)
		}
	}
	l.cut(true, "n1", "n2")
	l.wantPlaces("n1:3 n2:3")
}

func TestNodeThatComesBackGetsItsOwnShareAtOnce(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 6, "n1", "n2", "n3")
	l.cut(false, "n1", "n2")
	l.cut(false, "n1", "n2", "n3")
	l.wantPlaces("n1:2 n2:2 n3:2")
}

func TestSharesGrowWithTheClusterAndMoveOneByOne(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 6, "n1", "n2")
	l.wantPlaces("n1:3 n2:3")
	l.ok(member("n3", func(m *clusterpb.Member) { m.FeatureLevel = GuaranteesLevel }))
	l.cut(false, "n1", "n2", "n3")
	l.wantPlaces("n1:2+1 n2:2+1")
	l.cut(true, "n1", "n2", "n3")
	l.wantPlaces("n1:2 n2:2 n3:2")
}

func TestLiveVersionDecidesWhatIsReserved(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 6, "n1", "n2")
	l.ok(deployReserved(4))
	l.wantPlaces("n1:2+1 n2:2+1") // at once, though what runs goes on
	l.ok(putAlias("till", &clusterpb.Alias{Name: "live", Version: 1}, 0))
	l.cut(false, "n1", "n2")
	l.wantPlaces("n1:3 n2:3")
	l.ok(deployReserved(0))
	l.wantPlaces("none")
	l.ok(putAlias("till", &clusterpb.Alias{Name: "live", Version: 2}, 0))
	l.wantPlaces("n1:2 n2:2")
}

func TestLongestTimeoutOutlivesItsVersion(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 2, "n1")
	l.ok(deployReserved(2, func(c *clusterpb.VersionConfig) { c.TimeoutMs = 300_000 }))
	l.ok(deployReserved(2))
	l.ok(&clusterpb.Command{Op: &clusterpb.Command_DeleteVersion{DeleteVersion: &clusterpb.DeleteVersion{Version: key("till", 2).Ref()}}})
	if got := l.view().Reservation(till).Longest; got != 5*time.Minute {
		t.Fatalf("longest is %v, a call of the deleted version may run for 5m", got)
	}
}

func TestReservationFollowsMax(t *testing.T) {
	t.Parallel()
	l := reservedLab(t, 0, "n1", "n2", "n3")
	l.ok(deployReserved(6, limited(1, 2)))
	r, a := l.view().Reservation(till), l.view().Assignment(key("till", 2))
	if len(r.Places) != 1 || len(a.Places) != 1 || r.Places[0].Node != a.Places[0].Node || r.Places[0].Share != 6 {
		t.Fatalf("shares %+v, while the version may run at %+v", r.Places, a.Places)
	}
}
