package state

import "github.com/covey-dev/covey/cluster/clusterpb"

const (
	maxReserved   = 1_000_000
	maxRate       = 1_000_000
	maxProvisions = 32
	minutesOfDay  = 24 * 60
	everyDay      = 1<<7 - 1
)

// NeedsGuarantees reports whether a configuration has what nodes below
// GuaranteesLevel do not know. They stop at a command that holds it, so that a
// proposer must not even propose it to a cluster below that level.
func NeedsGuarantees(cfg *clusterpb.VersionConfig) bool {
	return cfg.GetReserved() > 0 || len(cfg.GetProvisioned()) > 0 || cfg.GetRate() != nil
}

// guarantees checks what the leader or the invocation path has to keep.
func (p *problems) guarantees(cfg *clusterpb.VersionConfig, level uint32) {
	if !NeedsGuarantees(cfg) {
		return
	}
	if level < GuaranteesLevel {
		p.check(false, "reserved, provisioned and rate need feature level %d, the cluster is at %d: upgrade its nodes",
			GuaranteesLevel, level)
		return
	}
	between(p, "reserved", cfg.GetReserved(), 0, maxReserved)
	p.check(len(cfg.GetProvisioned()) <= maxProvisions,
		"provisioned: %d, at most %d are allowed", len(cfg.GetProvisioned()), maxProvisions)
	for _, w := range cfg.GetProvisioned() {
		p.provision(w, cfg.GetMax())
	}
	if r := cfg.GetRate(); r != nil {
		between(p, "rate.per_second", r.GetPerSecond(), 1, maxRate)
		between(p, "rate.burst", r.GetBurst(), 0, maxRate)
	}
}

// provision does not look the zone up: which zones there are depends on the machine.
// The proposer does.
func (p *problems) provision(w *clusterpb.Provision, limit uint32) {
	between(p, "provisioned.count", w.GetCount(), 1, maxInstances)
	p.check(limit == 0 || w.GetCount() <= limit, "provisioned.count is %d, more than max, which is %d", w.GetCount(), limit)
	between(p, "provisioned.from_minute", w.GetFromMinute(), 0, minutesOfDay-1)
	between(p, "provisioned.to_minute", w.GetToMinute(), 0, minutesOfDay)
	between(p, "provisioned.days", w.GetDays(), 0, everyDay)
	p.check(isZone(w.GetZone()), "provisioned.zone %q is not a time zone", clip(w.GetZone()))
}

// isZone reports whether a text looks like a name of the time zone database.
func isZone(zone string) bool {
	if len(zone) > maxName {
		return false
	}
	for _, r := range zone {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '/', r == '_', r == '-', r == '+':
		default:
			return false
		}
	}
	return true
}

// MostProvisioned is the greatest number of instances that a version keeps warm at
// any time.
func MostProvisioned(cfg *clusterpb.VersionConfig) int {
	most := cfg.GetMin()
	for _, w := range cfg.GetProvisioned() {
		most = max(most, w.GetCount())
	}
	return int(most)
}
