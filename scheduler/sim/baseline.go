package sim

// randomly sends each call to some node.
type randomly struct{ plain }

func newRandom(*Sim) (policy, error) { return randomly{}, nil }

func (randomly) place(s *Sim, c *call) int32 { return s.any(c) }

// any returns some node that was not tried yet.
func (s *Sim) any(c *call) int32 {
	for range 64 {
		if n := int32(s.random.below(len(s.nodes))); s.mayTry(c, n) {
			return n
		}
	}
	return nowhere
}
