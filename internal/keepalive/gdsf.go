package keepalive

import "time"

// Clock is the clock of the greedy-dual-size-frequency policy as FaasCache applies
// it to instances of functions (Fuerst and Sharma, "FaasCache: Keeping Serverless
// Computing Alive with Greedy-Dual Caching", ASPLOS 2021; the policy itself is
// Cherkasova's, 1998). It is not a time: it rises to the priority of each instance
// that had to go, so that what is used later starts above it and the frequency of
// long ago loses its weight. The zero value is ready for use.
type Clock float64

// Evicted moves the clock after an instance of that priority was ended for its
// memory. It never moves back.
func (c *Clock) Evicted(priority float64) { *c = max(*c, Clock(priority)) }

// Priority is what keeping an instance is worth; the lowest goes first. used is
// the clock at the instance's last use, frequency the number of calls of its
// version since that last had no instance, cold what a start costs (0 while
// unknown) and memory what the instance holds, in bytes.
func Priority(used Clock, frequency uint64, cold time.Duration, memory int64) float64 {
	mebibytes := float64(max(memory, 1)) / (1 << 20)
	return float64(used) + float64(frequency)*cold.Seconds()*1e3/mebibytes
}
