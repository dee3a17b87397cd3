package workload

import "math/rand/v2"

// picker chooses among weighted functions in constant time (Walker's alias method).
type picker struct {
	first int
	slots []slot
}

// slot holds a function, its alias, and the part of the slot that is the function's.
type slot struct {
	part            float64
	function, alias int32
}

// one always picks the same function.
func one(function int) picker { return picker{first: function} }

// newPicker picks each function in proportion to its weight, of which some is positive.
func newPicker(functions []int, weights []float64) picker {
	if len(functions) == 1 {
		return one(functions[0])
	}
	n := len(functions)
	var all float64
	for _, w := range weights {
		all += w
	}
	slots := make([]slot, n)
	var small, large []int
	for i, f := range functions {
		slots[i] = slot{part: weights[i] / all * float64(n), function: int32(f), alias: int32(f)}
		if slots[i].part < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		slots[s].alias = slots[l].function
		slots[l].part -= 1 - slots[s].part
		if slots[l].part < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return picker{slots: slots}
}

func (p *picker) pick(r *rand.Rand) int {
	if len(p.slots) == 0 {
		return p.first
	}
	x := r.Float64() * float64(len(p.slots))
	i := int(x)
	if s := &p.slots[i]; x-float64(i) < s.part {
		return int(s.function)
	}
	return int(p.slots[i].alias)
}
