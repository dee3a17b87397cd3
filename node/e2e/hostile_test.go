package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/covey-dev/covey/node/client/wire"
	"github.com/covey-dev/covey/node/e2e/ledger"
)

// processesWith returns the processes of this machine whose command line or
// environment has a text in it, but for this one.
func processesWith(text string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, name := range []string{"cmdline", "environ"} {
			if found, err := os.ReadFile(filepath.Join("/proc", e.Name(), name)); err == nil && bytes.Contains(found, []byte(text)) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// TestHostileChildDiesWithTheDaemon leaves a process behind that ignores SIGTERM,
// forked twice, is in a session of its own and closed its descriptors (row R19).
// It is gone within 2 s of a kill -9 of the daemon where pid namespaces exist,
// and at the daemon's next start elsewhere.
func TestHostileChildDiesWithTheDaemon(t *testing.T) {
	t.Parallel()
	rounds := 2
	if soak() {
		rounds = 100
	}
	c := newCluster(t, 1)
	n := c.nodes[0]
	// What stays of one instance is found by what only it has in its environment.
	mark := rand.Text()
	c.deploy("hostile", wire.FunctionSpec{Env: map[string]string{"MARK": mark}})
	for range rounds {
		orphan := "orphan-" + rand.Text()
		mustCall(t, c.client(), "hostile", ledger.Order{Op: ledger.OpOrphan, Marker: orphan}, nil)
		await(t, 10*time.Second, "orphan lives", func() error {
			for _, pid := range processesWith(orphan) {
				if stage, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && bytes.Contains(stage, []byte("LEDGER_ORPHAN=2")) {
					return nil
				}
			}
			return fmt.Errorf("processes %v", processesWith(orphan))
		})
		isolated := pidNamespace(processesWith(orphan)[0]) != pidNamespace(os.Getpid())
		n.kill()
		gone := func() error {
			if left := append(processesWith(orphan), processesWith(mark)...); len(left) > 0 {
				return fmt.Errorf("processes %v are left", left)
			}
			return nil
		}
		if isolated {
			await(t, 2*time.Second, "everything of the instance is gone", gone)
		}
		n.start()
		await(t, 2*time.Second, "everything of the instance is gone after the next start", gone)
	}
	if os.Geteuid() == 0 && pidNamespace(os.Getpid()) == "" {
		t.Error("cannot tell pid namespaces apart")
	}
}

func pidNamespace(pid int) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return ""
	}
	return name
}

// TestFunctionSeesNothingOfTheNodeOrOfOthers lets a function look for the node's
// keys and for another function's environment, descriptors and sockets.
func TestFunctionSeesNothingOfTheNodeOrOfOthers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	secret := "secret-" + rand.Text()
	c.deploy("victim", wire.FunctionSpec{Env: map[string]string{"PASSWORD": secret}})
	own := c.deploy("spy", wire.FunctionSpec{})
	var victim ledger.Execution
	mustCall(t, c.client(), "victim", ledger.Order{Op: ledger.OpNote}, &victim)
	// Where things are is told to the spy, so that not finding them is no defence.
	var paths []string
	err := filepath.WalkDir(n.dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	has := strings.Join(paths, "\n")
	for _, want := range []string{"admin.token", filepath.Join(n.dir, "keys")} {
		if !strings.Contains(has, want) {
			t.Fatalf("the data directory has no %s to protect:\n%s", want, has)
		}
	}
	for _, dir := range n.instanceDirs() {
		paths = append(paths, dir, filepath.Join(dir, ledger.File))
		sockets, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, s := range sockets {
			paths = append(paths, s, "unix:"+s)
		}
	}
	for _, pid := range append(processesWith(secret), n.pid(), os.Getpid()) {
		for _, name := range []string{"environ", "mem", "maps", "cmdline", "fd", "root", "cwd"} {
			paths = append(paths, fmt.Sprintf("/proc/%d/%s", pid, name))
		}
		descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		paths = append(paths, descriptors...)
	}
	for _, address := range []string{n.api, n.peer, n.gossip} {
		paths = append(paths, "tcp:"+address)
	}
	if len(processesWith(secret)) == 0 {
		t.Fatal("the victim does not run")
	}
	// Two things that it must find show that it can look: a file that every
	// instance sees, and a text in the ledger of its own.
	const open = "/etc/passwd"
	const inLedger = `"function":"spy"`
	var got ledger.Report
	mustCall(t, c.client(), "spy", ledger.Order{
		Op: ledger.OpSpy, Paths: append(paths, open), Secrets: []string{inLedger, secret, c.token, "PRIVATE KEY"},
	}, &got)
	ownLedger := filepath.Join(got.Home, ledger.File)
	if !slices.Contains(got.Reached, open) || !slices.Contains(got.Found, ownLedger) {
		t.Fatalf("the spy does not find what is there: %+v", got)
	}
	got.Found = slices.DeleteFunc(got.Found, func(path string) bool { return path == ownLedger })
	namespaces := got.Processes <= 3
	for _, path := range got.Reached {
		if path == open || onlyLeadsHome(path, &got) {
			continue
		}
		if namespaces && strings.HasPrefix(path, "/proc/") && strings.Count(path, "/") == 3 && ownNumber(path) {
			continue // small numbers are the spy's own processes there
		}
		if !namespaces && notPromised(path, own) {
			continue
		}
		t.Errorf("the spy reached %s", path)
	}
	if len(got.Found) > 0 {
		t.Errorf("the spy found secrets in %v", got.Found)
	}
	if got.Files == 0 || got.Processes == 0 || got.Execution.Instance == victim.Instance {
		t.Errorf("the spy did not look around: %+v", got)
	}
	if os.Geteuid() == 0 && (got.UID == 0 || !namespaces) {
		t.Errorf("as root every instance has a user and processes of its own: %+v", got)
	}
}

// onlyLeadsHome tells whether a path is the spy's own directory, or one above it in
// which it sees nothing but the way there.
func onlyLeadsHome(path string, r *ledger.Report) bool {
	if path == r.Home {
		return true
	}
	way, above := strings.CutPrefix(r.Home, path+"/")
	next, _, _ := strings.Cut(way, "/")
	return above && slices.Equal(r.Listed[path], []string{next})
}

// notPromised tells what a function of the lowest level can reach: networks and the
// command lines of others, how many descriptors they have, though not what these
// are, and its own program, where the node keeps it.
func notPromised(path string, own *wire.Version) bool {
	_, digest, _ := strings.Cut(own.Spec.Artifacts[0].Digest, ":")
	return strings.HasPrefix(path, "tcp:") || strings.HasPrefix(path, "/proc/") && slices.Contains([]string{"cmdline", "fd"}, filepath.Base(path)) ||
		filepath.Base(path) == digest
}

// ownNumber tells whether a path below /proc names a process that a new pid
// namespace has too.
func ownNumber(path string) bool {
	pid, err := strconv.Atoi(strings.Split(path, "/")[2])
	return err == nil && pid <= 3
}
