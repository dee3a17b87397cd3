package sim

// Policy is a way of placing calls.
type Policy struct {
	// Name is how the table calls it.
	Name string
	// Bound marks what cannot be built.
	Bound bool
	// free says that messages take no time.
	free  bool
	build func(s *Sim) (policy, error)
}

// policy is a Policy at work. Its methods are called from within the engine and
// must not submit calls but through Sim's methods.
type policy interface {
	// place names the node for a call that is at its entry, or nowhere, or held.
	place(s *Sim, c *call) int32
	// answered tells what the entry learns: c.load, and c.broken when refused.
	answered(s *Sim, c *call, refused bool)
	// accepts is asked by a node that a call was sent to; no is a refusal.
	accepts(s *Sim, n *node, c *call) bool
	// freed tells that a pool has another free slot, and what the start cost when
	// the slot is that of an instance that has just started.
	freed(s *Sim, p *pool, cold int64)
	// ready and ended tell that a pool has an instance more, or less.
	ready(s *Sim, p *pool)
	ended(s *Sim, p *pool)
	// failed tells of a pool that dies with its node, while it is still whole.
	failed(s *Sim, p *pool)
	// changed tells that the number of a node's jobs changed.
	changed(s *Sim, n *node)
	// membership tells that gossip declared a node dead or alive.
	membership(s *Sim, n int32, up bool)
	// event is one that the policy made.
	event(s *Sim, e *event)
}

// plain is the part of a policy that does nothing.
type plain struct{}

func (plain) answered(*Sim, *call, bool)      {}
func (plain) accepts(*Sim, *node, *call) bool { return true }
func (plain) freed(*Sim, *pool, int64)        {}
func (plain) ready(*Sim, *pool)               {}
func (plain) ended(*Sim, *pool)               {}
func (plain) failed(*Sim, *pool)              {}
func (plain) changed(*Sim, *node)             {}
func (plain) membership(*Sim, int32, bool)    {}
func (plain) event(*Sim, *event)              {}

// mayTry reports whether the call may be sent to a node.
func (s *Sim) mayTry(c *call, n int32) bool { return !c.wasTried(n) && s.usable(c.entry, n) }

// Policies returns all of them: Covey's own, the practical ones, the bound last.
func Policies() []Policy {
	return []Policy{
		{Name: "covey", build: newCovey},
		{Name: "random", build: newRandom},
		{Name: "round robin", build: newRoundRobin},
		{Name: "two choices", build: newTwoChoices},
		{Name: "least loaded", build: newLeastLoaded},
		{Name: "join idle queue", build: newJoinIdle},
		{Name: "bounded hashing", build: newBounded},
		{Name: "late binding", build: newLateBinding},
		{Name: "pull", build: newPull},
		{Name: "home node", build: newHome},
		{Name: "central (bound)", Bound: true, free: true, build: newCentral},
	}
}
