package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/covey-dev/covey/node/client"
	"github.com/covey-dev/covey/node/client/wire"
)

// proc is a child process.
type proc struct {
	cmd  *exec.Cmd
	done chan error // has the one result of Wait
}

func start(cmd *exec.Cmd) (*proc, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &proc{cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }() // ends with the process, which end and kill wait for
	return p, nil
}

// end asks the process to stop and makes sure of it.
func (p *proc) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.kill()
	}
}

func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *proc) pid() int { return p.cmd.Process.Pid }

// member is one node of the measured cluster.
type member struct {
	*proc
	name, dir         string
	api, peer, gossip string
}

// nodes is the measured cluster.
type nodes struct {
	covey   string
	members []*member
	token   string
	client  *client.Client
}

// startCluster starts n nodes in their default configuration.
func startCluster(ctx context.Context, covey, dir string, n int) (*nodes, error) {
	c := &nodes{covey: covey}
	for i := range n {
		m := &member{name: fmt.Sprintf("node-%d", i+1), dir: filepath.Join(dir, fmt.Sprintf("node-%d", i+1))}
		for _, addr := range []*string{&m.api, &m.peer, &m.gossip} {
			port, err := freePort()
			if err != nil {
				return nil, errors.Join(err, c.stop())
			}
			*addr = fmt.Sprintf("127.0.0.1:%d", port)
		}
		args := []string{"--init"}
		if i > 0 {
			token, err := c.client.CreateJoinToken(ctx, wire.JoinTokenRequest{})
			if err != nil {
				return nil, errors.Join(err, c.stop())
			}
			args = []string{"--join", token.Token}
		}
		c.members = append(c.members, m)
		if err := c.start(ctx, m, args...); err != nil {
			return nil, errors.Join(err, c.stop())
		}
		if i == 0 {
			// The port is bound before the cluster is founded.
			if err := await(ctx, 20*time.Second, func() error {
				raw, err := os.ReadFile(filepath.Join(m.dir, "admin.token"))
				c.token = strings.TrimSpace(string(raw))
				return err
			}); err != nil {
				return nil, errors.Join(err, c.stop())
			}
		}
		if err := c.connect(); err != nil {
			return nil, errors.Join(err, c.stop())
		}
		if err := await(ctx, 20*time.Second, func() error { _, err := c.client.Status(ctx); return err }); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, c.settled(ctx)
}

// start starts or restarts a node and waits until its API answers.
func (c *nodes) start(ctx context.Context, m *member, args ...string) error {
	log, err := os.OpenFile(m.dir+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.covey, append([]string{
		"start", "--name", m.name, "--data-dir", m.dir, "--advertise", "127.0.0.1", "--log-level", "warn",
		"--api", m.api, "--peer", m.peer, "--gossip", m.gossip,
	}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if m.proc, err = start(cmd); err != nil {
		return err
	}
	return await(ctx, 20*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", m.api, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// connect makes the client for all members.
func (c *nodes) connect() error {
	if c.client != nil {
		c.client.Close()
	}
	var err error
	c.client, err = c.clientOf(c.members...)
	return err
}

// clientOf makes a client that knows these members only.
func (c *nodes) clientOf(members ...*member) (*client.Client, error) {
	cfg := client.DefaultConfig()
	cfg.Token = c.token
	for _, m := range members {
		cfg.Addresses = append(cfg.Addresses, m.api)
	}
	return client.New(cfg)
}

// settled waits until all members live and vote.
func (c *nodes) settled(ctx context.Context) error {
	return await(ctx, 60*time.Second, func() error {
		list, err := c.client.Nodes(ctx)
		if err != nil {
			return err
		}
		good := 0
		for _, n := range list {
			if n.Alive && n.Role == "voter" && n.Error == "" {
				good++
			}
		}
		if good < len(c.members) {
			return fmt.Errorf("%d of %d nodes live and vote", good, len(c.members))
		}
		return nil
	})
}

func (c *nodes) stop() error {
	for _, m := range c.members {
		if m.proc != nil {
			m.end()
		}
	}
	if c.client != nil {
		c.client.Close()
	}
	return nil
}

// deploy deploys a program under a name.
func (c *nodes) deploy(ctx context.Context, name, program string, spec wire.FunctionSpec) error {
	info, err := os.Stat(program)
	if err != nil {
		return fmt.Errorf("%w (run make examples)", err)
	}
	up, err := c.client.Upload(ctx, func() (io.ReadCloser, error) { return os.Open(program) }, info.Size())
	if err != nil {
		return err
	}
	spec.Artifacts = []wire.Artifact{{Digest: up.Digest, Size: uint64(up.Size)}}
	_, err = c.client.Deploy(ctx, "default", name, wire.DeployRequest{FunctionSpec: spec})
	return err
}

// freePort returns a port that is free for TCP and UDP now.
func freePort() (int, error) {
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = u.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port found")
}

// await calls check until it returns nil; after the given time its last error.
func await(ctx context.Context, most time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", most, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// treeCPU is the processor time of a process and its living descendants.
func treeCPU(pid int) time.Duration {
	parents := map[int]int{}
	ticks := map[int]int64{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, used, ok := stat(p); ok {
			parents[p], ticks[p] = parent, used
		}
	}
	var sum int64
	for p := range ticks {
		for q := p; q > 1; q = parents[q] {
			if q == pid {
				sum += ticks[p]
				break
			}
		}
	}
	return time.Duration(sum) * time.Second / clockTicks
}

// clockTicks is USER_HZ, which Linux fixes at 100 on every platform of ours.
const clockTicks = 100

// stat returns a process's parent and used clock ticks.
func stat(pid int) (parent int, used int64, ok bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	// The name may hold spaces and brackets; fields count from its end.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return 0, 0, false
	}
	parent, _ = strconv.Atoi(fields[1])
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return parent, user + system, true
}

// children returns the living children of a process.
func children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, _, ok := stat(p); ok && parent == pid {
			found = append(found, p)
		}
	}
	return found
}

// descendants returns the living descendants of a process.
func descendants(pid int) []int {
	found := children(pid)
	for i := 0; i < len(found); i++ {
		found = append(found, children(found[i])...)
	}
	return found
}

// memory returns a process's proportional and resident set in KiB.
func memory(pid int) (pss, rss float64) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch value, _ := strconv.ParseFloat(fields[1], 64); fields[0] {
		case "Pss:":
			pss = value
		case "Rss:":
			rss = value
		}
	}
	return pss, rss
}
