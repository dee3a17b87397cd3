package sim

import "math"

// node is a simulated machine. Its processors are shared equally by the jobs that
// run, each of which can use one at most. All jobs advance at one rate, so one
// virtual clock per node tells when each is done.
type node struct {
	id   int32
	cpus float64
	up   bool

	// v is the processor time that a job since the beginning would have got, in
	// nanoseconds, as of at.
	v    float64
	at   int64
	jobs []job
	// gen is the newest eventCPU; older ones are void.
	gen uint32

	pools []*pool // by function; nil where there never was one
	used  []*pool // those with instances
	// memory is reserved by instances, of budget.
	memory, budget int64
	// inflation is greedy-dual's clock.
	inflation float64

	// busy is the processor time spent so far, in nanoseconds.
	busy float64
}

// job is a call that runs or an instance that starts.
type job struct {
	finish float64 // in the node's virtual time
	serial uint64
	call   *call // nil for a start
	in     *instance
	begun  int64
}

// rate is how fast each job advances.
func (n *node) rate() float64 { return min(1, n.cpus/float64(len(n.jobs))) }

// advance brings the node's virtual time up to now.
func (n *node) advance(now int64) {
	if dt := now - n.at; dt > 0 {
		if len(n.jobs) > 0 {
			n.v += float64(dt) * n.rate()
			n.busy += float64(dt) * min(float64(len(n.jobs)), n.cpus)
		}
		n.at = now
	}
}

func (j *job) before(o *job) bool {
	return j.finish < o.finish || (j.finish == o.finish && j.serial < o.serial)
}

// add starts a job of so much processor time. The node is advanced to now.
func (n *node) add(j job, work int64) {
	j.finish = n.v + float64(max(work, 1))
	n.jobs = append(n.jobs, j)
	i := len(n.jobs) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !j.before(&n.jobs[parent]) {
			break
		}
		n.jobs[i] = n.jobs[parent]
		i = parent
	}
	n.jobs[i] = j
}

// take removes the job that is done first.
func (n *node) take() job {
	top := n.jobs[0]
	last := n.jobs[len(n.jobs)-1]
	n.jobs = n.jobs[:len(n.jobs)-1]
	if len(n.jobs) == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= len(n.jobs) {
			break
		}
		if c+1 < len(n.jobs) && n.jobs[c+1].before(&n.jobs[c]) {
			c++
		}
		if !n.jobs[c].before(&last) {
			break
		}
		n.jobs[i] = n.jobs[c]
		i = c
	}
	n.jobs[i] = last
	return top
}

// next is when the first job will be done if nothing changes before.
func (n *node) next() int64 {
	left := max((n.jobs[0].finish-n.v)/n.rate(), 0)
	return n.at + int64(math.Ceil(left))
}

// done reports whether the first job is done at the node's virtual time. Half a
// nanosecond forgives what floating point lost.
func (n *node) done() bool { return len(n.jobs) > 0 && n.jobs[0].finish <= n.v+0.5 }
