package sim

import "math"

// histogram counts slowdowns in steps of two per cent.
type histogram struct {
	counts []uint32
	total  uint64
}

const histogramStep = 1.02

// add counts one slowdown, which is at least 1 but for rounding.
func (h *histogram) add(x float64) {
	i := 0
	if x > 1 {
		i = int(math.Log(x) / math.Log(histogramStep))
	}
	for len(h.counts) <= i {
		h.counts = append(h.counts, make([]uint32, i+1-len(h.counts))...)
	}
	h.counts[i]++
	h.total++
}

// merge adds another's counts.
func (h *histogram) merge(o *histogram) {
	if len(h.counts) < len(o.counts) {
		h.counts = append(h.counts, make([]uint32, len(o.counts)-len(h.counts))...)
	}
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// quantile returns the middle of the step that holds the quantile.
func (h *histogram) quantile(q float64) float64 {
	if h.total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.total)))
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); seen >= max(rank, 1) {
			if i == 0 {
				return 1
			}
			return math.Pow(histogramStep, float64(i)+0.5)
		}
	}
	return math.Pow(histogramStep, float64(len(h.counts)))
}
