package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/plugins"
)

const (
	// prepareTimeout bounds a preparation. Compiling the largest module that fits
	// into an archive takes about a minute on a slow machine.
	prepareTimeout = 3 * time.Minute
	// prepareMemory limits a process that prepares. Compilers take more than what they
	// compile will take.
	prepareMemory = 1 << 30
	// saidMax is how much of what a preparing process printed is logged.
	saidMax = 2 << 10
)

// Prepare has the code with the given digest unpacked and, where the runtime can
// compute something from it, prepared. It blocks until that is done. Failing to
// prepare is logged and no error: instances work without.
func (p *Pool) Prepare(ctx context.Context, runtime, digest, handler string) error {
	s := p.shelfs[runtime]
	if s == nil {
		return fmt.Errorf("%w: %q", ErrRuntime, runtime)
	}
	t, err := p.trees.hold(ctx, digest)
	if err != nil {
		return err
	}
	defer p.trees.release(t)
	return p.prepared(ctx, s.rt, t, handler)
}

// prepared returns when the tree is prepared for a runtime, whoever does it. When ctx
// ends before, the work goes on for the next who asks.
func (p *Pool) prepared(ctx context.Context, rt *Runtime, t *tree, handler string) error {
	if !rt.Prepares || !p.cfg.Sandbox.Shows() {
		return nil
	}
	mine, done := p.trees.claim(t, rt.Name)
	if mine {
		p.trees.work.Go(func() { p.prepare(rt, t, handler) })
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the code to be prepared: %w", context.Cause(ctx))
	}
}

// prepare fulfils a claim.
func (p *Pool) prepare(rt *Runtime, t *tree, handler string) {
	begun := time.Now()
	path, err := p.compute(rt, t, handler)
	event := p.log.Debug()
	if err != nil {
		event = p.log.Warn().Err(err)
	}
	event.Str("runtime", rt.Name).Str("digest", t.digest).Float64("took_ms", time.Since(begun).Seconds()*1e3).Msg("code prepared")
	p.trees.settle(t, rt.Name, path)
}

// compute runs a process that fills a folder, and returns the folder.
func (p *Pool) compute(rt *Runtime, t *tree, handler string) (path string, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, prepareTimeout)
	defer cancel()
	path = t.path + "." + rt.Name + "-" + strconv.FormatUint(p.serial.Add(1), 10)
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(path) // at worst it lies there until the next start
		}
	}()
	b, err := p.start(ctx, rt)
	if err != nil {
		return "", err
	}
	defer b.discard()
	for _, step := range []func() error{
		func() error { return b.process.Limit(prepareMemory) },
		func() error { return b.process.Show(sandbox.Place{Source: t.path, Target: sandbox.TaskDir}) },
		func() error { return b.process.Share(sandbox.Place{Source: path, Target: sandbox.CacheDir}) },
	} {
		if err := step(); err != nil {
			return "", err
		}
	}
	if err := b.prepare(ctx, handler); err != nil {
		return "", err
	}
	return path, seal(path)
}

// prepare tells the process what to do and waits for its end.
func (b *blank) prepare(ctx context.Context, handler string) error {
	conn := plugins.NewConn(b.conn, plugins.ConnConfig{})
	defer conn.Close()
	if err := conn.Setup(&plugins.Setup{
		Handler: handler, Code: sandbox.TaskDir, Cache: sandbox.CacheDir, Memory: prepareMemory, Concurrency: 1, Preparing: true,
	}); err != nil {
		return err
	}
	_, ready := conn.Ready(ctx)
	select {
	case <-b.process.Done():
	case <-ctx.Done():
		return fmt.Errorf("prepare: %w", context.Cause(ctx))
	}
	if st := b.process.State(); st.Code != 0 {
		return fmt.Errorf("process ended with code %d, signal %d, and said %q: %w", st.Code, st.Signal, b.said(), ready)
	}
	return nil
}

// said returns the end of what a dead process printed.
func (b *blank) said() string {
	_ = b.stderr.SetReadDeadline(time.Now().Add(time.Second))
	text, _ := io.ReadAll(io.LimitReader(b.stderr, 64<<10)) // what could be read is better than nothing
	return string(text[max(0, len(text)-saidMax):])
}

// seal makes a folder that a process has filled the daemon's own, for everybody to
// read: nothing in it is writable, and nothing is left that is neither a file nor a
// folder. Nobody has it open any more.
func seal(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("seal cache: %w", err)
	}
	defer root.Close()
	var strays []string
	uid, gid := os.Geteuid(), os.Getegid()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o444)
		switch {
		case d.IsDir():
			mode = 0o555
		case !d.Type().IsRegular():
			strays = append(strays, name)
			return nil
		}
		return errors.Join(root.Lchown(name, uid, gid), root.Chmod(name, mode))
	})
	for _, name := range strays {
		err = errors.Join(err, root.Remove(name))
	}
	if err != nil {
		return fmt.Errorf("seal cache: %w", err)
	}
	return nil
}
