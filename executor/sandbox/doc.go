// Package sandbox starts the processes of instances and confines them. It is the
// only place of the project that starts a process, and knows nothing of
// functions, invocations or plugins: it gets a program and descriptors, and gives
// back a Process that ends as a whole.
//
// # What it promises
//
// On a machine where the daemon is root (LevelIsolated and above), an instance
//
//   - runs under a user id of its own, without capabilities, unable to gain any;
//   - inherits the descriptors and the environment it was given and nothing else;
//   - sees its private directory, a private /tmp, read-only system directories
//     and its own processes: neither the daemon's data nor other instances'
//     files, sockets, memory, environments or descriptors;
//   - has a network of its own with nothing but loopback, unless told otherwise;
//   - is limited in memory, processes and descriptors;
//   - ends completely: with its code, on Kill, and when the daemon dies, be it by
//     kill -9, whatever it does to survive.
//
// Elsewhere it promises less, says so (Describe), and refuses instances that
// demand more (Spec.MinLevel).
//
// It is a wall against mistakes, curiosity and common exploits. It is not a wall
// between hostile tenants: all instances share a kernel. Nor does it bound what a
// function writes to its private directory where that is on a disk (Config.RunDir),
// or what it does with a network that it was given.
//
// # How a start works
//
// New prepares what every start needs. A thread stands in a mount namespace whose
// root shows what instances may see (launcher.go, namespace.go). Berths, made
// ahead, hold a user id, a directory, a cgroup and a network namespace each
// (berth.go). A script of system calls is written (plan.go, script.go), and the
// stage, a few hundred bytes of assembly, forked from that thread (stage.go). The
// stage, in new namespaces, performs the script:
//
//	set death signal            it dies with the daemon
//	join cgroup and network     what needs power comes first
//	mount /proc, /tmp, Dir
//	limits, hide                nobody traces process 1
//	fork ─┬─ process 1: wait, reap, tell how process 2 ended, exit
//	      └─ process 2: own session, user id, no_new_privs, filter, exec
//
// Process 1 is never the function's code, because the kernel drops signals with
// default action there and somebody has to reap orphans. When it ends, for
// whatever reason, the kernel ends everything else in the pid namespace before
// its parent learns of it: that is what Kill and Done wait for.
//
// Almost all of that happens before anybody asks: a berth comes with a stage that
// has stopped right before the exec and waits for an order (park.go). What is left
// for Start is one message, and the exec itself.
//
// BenchmarkStart measures what all of it adds to a bare exec.
//
// Linux 5.12 or newer is needed. Which mechanisms are used is decided once, by
// trying (mode.go): containers, security modules and sysctls disable them in ways
// that no version number tells.
package sandbox
