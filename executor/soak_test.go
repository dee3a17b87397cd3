//go:build linux && (amd64 || arm64)

package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/covey-dev/covey/executor/hosts"
	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
	"github.com/covey-dev/covey/plugins/plugintest/program"
)

// TestCrashesLeaveNothingBehind starts instances that crash in a call, over and over, of
// a program and of hosted runtimes, beside a function that must not notice. Afterwards
// nothing of them is left: no process, descriptor, cgroup, directory or memory. The soak
// of `make soak` has ten thousand of them.
func TestCrashesLeaveNothingBehind(t *testing.T) {
	cycles := 60
	if os.Getenv("COVEY_SOAK") != "" {
		cycles = 10_000
	}
	have := detected(t)
	binary(t, "conformance")
	r := newCrashRig(t, have)
	quiet := realSpec("conformance", func(s *Spec) { s.Version = 99 }).sized(0)
	r.mustEcho(t, quiet, "quiet")
	specs := r.specs()
	for _, s := range specs { // what is made once does not count
		r.crash(t, s, "first")
	}
	before := r.settled(t)
	var work sync.WaitGroup
	for _, spec := range specs {
		work.Go(func() {
			for i := range cycles / len(specs) {
				r.crash(t, spec, fmt.Sprint(spec.Version, "-", i))
			}
		})
	}
	work.Wait()
	r.mustEcho(t, quiet, "after all")
	after := r.settled(t)
	t.Logf("before %+v, after %d crashes %+v", before, cycles, after)
	// The quiet function's instance is attached by go-plugin meanwhile, which takes a few
	// descriptors and goroutines. One leaked per crash would be more.
	if after.processes > before.processes || after.descriptors > before.descriptors+16 ||
		after.cgroups > before.cgroups || after.directories > before.directories || after.goroutines > before.goroutines+30 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	// The heap may keep what it has grown to, but a leak of a kilobyte each shows in a soak.
	if grown := int64(after.heap) - int64(before.heap); grown > 8<<20+int64(cycles)<<10 {
		t.Errorf("the heap grew by %d bytes in %d crashes", grown, cycles)
	}
}

// crashRig is an executor with functions that crash when they are told to.
type crashRig struct {
	*Executor
	runDir string // where the sandbox keeps private directories
	cgroup string // the name of the cgroup below which those of instances are
	hosted map[string]hosts.Runtime
}

func newCrashRig(t *testing.T, have map[string]hosts.Runtime) *crashRig {
	t.Helper()
	var runtimes []hosts.Runtime
	for _, rt := range have {
		runtimes = append(runtimes, rt)
	}
	archives := map[string]string{}
	for name, dir := range map[string]string{
		"python": "../plugins/runtime/python/testdata/conformance", "nodejs": "../plugins/runtime/nodejs/testdata/conformance/cjs",
	} {
		archives[name] = packFolder(t, os.DirFS(dir))
	}
	dir, err := os.MkdirTemp("", "covey-soak-") // short, because sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &crashRig{hosted: have, runDir: dir, cgroup: filepath.Base(dir)}
	box := newSandbox(t, func(cfg *sandbox.Config) { cfg.RunDir, cfg.CgroupParent = r.runDir, r.cgroup })
	t.Cleanup(func() {
		for _, parent := range r.cgroups() {
			_ = os.Remove(parent) // empty once the sandbox is closed
		}
	})
	r.Executor = newReal(t, box, func(cfg *Config) {
		code := cfg.Code
		cfg.Runtimes = runtimes
		cfg.Code = func(ctx context.Context, digest string) (*os.File, error) {
			if path, ok := archives[digest]; ok {
				return os.Open(path)
			}
			return code(ctx, digest)
		}
	})
	return r
}

// specs are one version of each kind of instance that this machine has.
func (r *crashRig) specs() []*Spec {
	specs := []*Spec{realSpec("conformance").sized(0)}
	for _, name := range []string{"python", "nodejs"} {
		if _, ok := r.hosted[name]; ok {
			specs = append(specs, realSpec("conformance", func(s *Spec) {
				s.Runtime, s.Digest, s.Version = name, name, uint64(len(specs)+1)
			}).sized(0))
			specs[len(specs)-1].Digest = name
		}
	}
	return specs
}

// crash makes an instance that completes a call and then falls over.
func (r *crashRig) crash(t *testing.T, spec *Spec, id string) {
	r.mustEcho(t, spec, id)
	resp, err := r.Invoke(t.Context(), spec, operation(t, id+"-crash", program.Input{Op: program.OpExit, N: 3}))
	resp.Release()
	if _, ok := errors.AsType[*plugins.ExitError](err); !ok {
		t.Errorf("crash of %s: %v", spec.Key, err)
	}
}

func (r *crashRig) mustEcho(t *testing.T, spec *Spec, id string) {
	resp, err := r.Invoke(t.Context(), spec, operation(t, id, program.Input{Op: program.OpEcho, Data: id}))
	if err != nil {
		t.Errorf("echo of %s: %v", spec.Key, err)
		return
	}
	resp.Release()
}

// leftovers is what could be left behind.
type leftovers struct {
	processes, descriptors, cgroups, directories, goroutines int
	heap                                                     uint64
}

// settled returns what there is once the executor has come to rest.
func (r *crashRig) settled(t *testing.T) leftovers {
	t.Helper()
	var now leftovers
	same := 0
	eventually(t, func() error {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		next := leftovers{
			processes: childrenOfThis(), descriptors: entries("/proc/self/fd"), goroutines: runtime.NumGoroutine(),
			cgroups: len(r.find("i-*")), directories: len(r.privates()),
		}
		last := now
		last.heap = 0
		if next != last {
			same = 0
		}
		now = next
		now.heap = m.HeapAlloc
		if same++; same < 20 {
			return errors.New("not at rest")
		}
		return nil
	})
	return now
}

func entries(dir string) int {
	list, _ := os.ReadDir(dir)
	return len(list)
}

// childrenOfThis counts the processes that this one has started and that are not gone.
func childrenOfThis() int {
	n := 0
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		n += len(strings.Fields(string(text)))
	}
	return n
}

// cgroups are the directories of the rig's cgroup in all hierarchies.
func (r *crashRig) cgroups() []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/" + r.cgroup)
	v2, _ := filepath.Glob("/sys/fs/cgroup/" + r.cgroup)
	return append(v1, v2...)
}

// find returns the cgroups of instances.
func (r *crashRig) find(pattern string) (all []string) {
	for _, parent := range r.cgroups() {
		found, _ := filepath.Glob(filepath.Join(parent, "covey-*", pattern))
		all = append(all, found...)
	}
	return all
}

// privates are the private directories of instances.
func (r *crashRig) privates() []string {
	found, _ := filepath.Glob(filepath.Join(r.runDir, "covey-*", "[0-9a-z]*"))
	return found
}
