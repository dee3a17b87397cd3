package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/covey-dev/covey/executor/sandbox"
)

// Source is what the package of a runtime says about it.
type Source struct {
	// Name is the runtime's.
	Name string
	// Prepares: see Runtime.
	Prepares bool
	// Compiles: see Runtime.
	Compiles bool
	// Pids: see Runtime.
	Pids int

	// Arguments are for a runtime that is hosted by a program of ours: the whole
	// argument vector. The rest of the fields are empty then.
	Arguments []string

	// Files are what the runtime's interpreter runs.
	Files fs.FS
	// Link is where functions see Files too; empty for nowhere.
	Link string
	// Interpreters are absolute paths, the first that will do is taken.
	Interpreters []string
	// Command is the argument vector for an interpreter with Files in dir.
	Command func(interpreter, dir string) []string
	// Compile is an argument vector that computes something from the files in dir and
	// leaves it there; nil for nothing.
	Compile func(interpreter, dir string) []string
	// Probe is an argument vector that ends with status 0, and the version on
	// standard output, if the interpreter will do.
	Probe func(interpreter string) []string
}

// Links are the symbolic links that a sandbox must have (sandbox.Config.Links) for the
// functions of a node with that data directory to find the files of runtimes.
func Links(dataDir string, sources []Source) [][2]string {
	var links [][2]string
	for _, src := range sources {
		if src.Link != "" {
			links = append(links, [2]string{filesDir(dataDir, src.Name), src.Link})
		}
	}
	return links
}

// filesDir is where the files of a runtime are.
func filesDir(dataDir, runtime string) string {
	return filepath.Join(dataDir, "runtimes", runtime)
}

// DetectConfig is what Detect works with.
type DetectConfig struct {
	// DataDir is the node's; the files of runtimes are written to DataDir/runtimes.
	DataDir string
	Sandbox *sandbox.Sandbox
	// Program is the binary that hosts runtimes of ours, open for reading. Nil leaves
	// them out.
	Program *os.File
	Sources []Source
	Logger  zerolog.Logger
}

const (
	// probeTimeout bounds one run of an interpreter.
	probeTimeout = 10 * time.Second
	// versionMax is how much of an answer is read.
	versionMax = 200
)

// Detect returns the runtimes that this machine can host, in the order of sources. It
// blocks while interpreters are asked. One that does not answer rightly is logged and
// left out.
func Detect(ctx context.Context, cfg DetectConfig) ([]Runtime, error) {
	if err := removeAll(filesDir(cfg.DataDir, "")); err != nil {
		return nil, fmt.Errorf("empty runtimes directory: %w", err)
	}
	found := make([]*Runtime, len(cfg.Sources))
	var probes sync.WaitGroup
	for i, src := range cfg.Sources {
		if src.Arguments != nil {
			if cfg.Program != nil {
				found[i] = &Runtime{Name: src.Name, Program: cfg.Program, Args: src.Arguments, Prepares: src.Prepares, Compiles: src.Compiles, Pids: src.Pids}
			}
			continue
		}
		dir := filesDir(cfg.DataDir, src.Name)
		if err := writeFiles(dir, src.Files); err != nil {
			return nil, fmt.Errorf("write files of runtime %s: %w", src.Name, err)
		}
		probes.Go(func() { found[i] = cfg.interpreter(ctx, src, dir) })
	}
	probes.Wait()
	var all []Runtime
	for _, rt := range found {
		if rt != nil {
			all = append(all, *rt)
		}
	}
	return all, ctx.Err()
}

// interpreter returns the runtime with the first interpreter that will do, or nil.
func (c *DetectConfig) interpreter(ctx context.Context, src Source, dir string) *Runtime {
	var tried []string
	for _, path := range src.Interpreters {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		version, err := c.run(ctx, src.Probe(path))
		if err == nil {
			c.compile(ctx, src, path, dir)
			return &Runtime{
				Name: src.Name, Path: path, Args: src.Command(path, dir), Files: dir, Prepares: src.Prepares, Pids: src.Pids, Version: version,
			}
		}
		tried = append(tried, path+": "+err.Error())
	}
	if len(tried) > 0 {
		c.Logger.Warn().Str("runtime", src.Name).Strs("tried", tried).Msg("no interpreter will do")
	}
	return nil
}

// compile lets an interpreter compile its files. Without that it starts slower.
func (c *DetectConfig) compile(ctx context.Context, src Source, path, dir string) {
	if src.Compile == nil {
		return
	}
	_, err := c.run(ctx, src.Compile(path, dir), dir)
	if err = errors.Join(err, seal(dir)); err != nil {
		c.Logger.Warn().Str("runtime", src.Name).Err(err).Msg("files of the runtime are not compiled")
	}
}

// run runs a command that may write to the given folders, and returns the first line
// that it prints.
func (c *DetectConfig) run(ctx context.Context, args []string, folders ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, theirs, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("open pipe: %w", err)
	}
	defer out.Close()
	p, err := c.Sandbox.Start(ctx, sandbox.Spec{
		Instance: "probe", Path: args[0], Args: args, Stdout: theirs, Stderr: theirs, Env: []string{"LANG=C.UTF-8"},
		WritePaths: folders,
	})
	_ = theirs.Close() // the process has its own copy
	if err != nil {
		return "", err
	}
	defer p.Kill()
	select {
	case <-p.Done():
	case <-ctx.Done():
		return "", errors.New("does not answer")
	}
	_ = out.SetReadDeadline(time.Now().Add(time.Second))
	text, _ := io.ReadAll(io.LimitReader(out, versionMax)) // what could be read is better than nothing
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if st := p.State(); st.Code != 0 {
		return "", fmt.Errorf("ended with code %d: %s", st.Code, line)
	}
	return line, nil
}

// writeFiles copies files to dir, for everybody to read and nobody to change.
func writeFiles(dir string, files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(path, 0o755)
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o444)
	})
}

// Names returns what a node says that it can host: "go", and the given ones.
func Names(runtimes []Runtime) []string {
	names := []string{"go"}
	for _, rt := range runtimes {
		names = append(names, rt.Name)
	}
	slices.Sort(names)
	return names
}
