// Package sim simulates a cluster event by event, to compare ways of placing
// calls at sizes that no test bed has.
//
// Covey's own way is the real code: one [scheduler.Scheduler] per entry node
// under a virtual clock, and [scheduler.ShouldStart]. Around it, and the same for
// every policy, is a model of the nodes: processors that are shared equally by
// the calls and starts that run, pools of instances with a bounded queue as
// package executor has them, keep-alive by greedy-dual-size-frequency under a
// memory budget, and messages that take time. The policies it is compared with
// are those of the literature, and Central is the bound: one queue with perfect
// knowledge and free messages that pays the same for starts, memory and
// processors.
//
// A run is a pure function of its Config: the same seed gives the same report,
// byte for byte. A Sim belongs to one goroutine.
package sim
