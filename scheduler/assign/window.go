package assign

import (
	"time"
	_ "time/tzdata" // a bare machine may have no time zone database

	"github.com/covey-dev/covey/cluster/clusterpb"
	"github.com/covey-dev/covey/cluster/state"
)

// zones finds time zones, each once.
type zones map[string]*time.Location

// of returns a zone. One that this release does not know is UTC: a deploy refuses it,
// so that it comes from a newer database.
func (z zones) of(name string) *time.Location {
	if loc, ok := z[name]; ok {
		return loc
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		loc = time.UTC
	}
	z[name] = loc
	return loc
}

// provisionedAt is how many instances of a version are kept warm at a time: the
// greatest of min and the windows that are open.
func provisionedAt(cfg *clusterpb.VersionConfig, now time.Time, z zones) int {
	most := cfg.GetMin()
	for _, w := range cfg.GetProvisioned() {
		if w.GetCount() > most && open(w, now.In(z.of(w.GetZone()))) {
			most = w.GetCount()
		}
	}
	return int(most)
}

// open reports whether a window is open at a local time. Clocks that are set forward
// or back move its ends with them, as they move the people it is for.
func open(w *clusterpb.Provision, at time.Time) bool {
	minute := uint32(at.Hour()*60 + at.Minute())
	begins := func(day time.Weekday) bool { return w.GetDays() == 0 || w.GetDays()&(1<<day) != 0 }
	today := begins(at.Weekday())
	from, to := w.GetFromMinute(), w.GetToMinute()
	switch {
	case from == to:
		return today
	case from < to:
		return today && from <= minute && minute < to
	default: // over midnight
		return (today && minute >= from) || (begins((at.Weekday()+6)%7) && minute < to)
	}
}

// windowed reports whether what is kept warm depends on the time of the week.
func windowed(view *state.View) bool {
	for _, f := range view.Functions("") {
		for _, v := range f.Versions {
			if len(v.Config.GetProvisioned()) > 0 && f.Named(v.Key.Number) {
				return true
			}
		}
	}
	return false
}
