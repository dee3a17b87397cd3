package main

import (
	"bytes"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/covey-dev/covey/node/e2e/ledger"
)

const (
	// mostFiles and mostBytes bound a spy's walk.
	mostFiles = 50_000
	mostBytes = 64 << 10
)

// spy tries to reach the paths it was told of and looks for secrets in every
// environment, command line and small file that it can read.
func spy(in ledger.Order) ledger.Report {
	r := ledger.Report{UID: os.Getuid(), Home: os.Getenv("HOME"), Listed: map[string][]string{}}
	for _, path := range in.Paths {
		if names := list(path); len(names) > 0 {
			r.Listed[path] = names
		} else if !reach(path) {
			continue
		}
		r.Reached = append(r.Reached, path)
	}
	look := func(path string) {
		text := read(path)
		for _, secret := range in.Secrets {
			if bytes.Contains(text, []byte(secret)) {
				r.Found = append(r.Found, path)
			}
		}
	}
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		if p.Name() == strconv.Itoa(os.Getpid()) {
			continue // its own memory holds the order, and so the secrets
		}
		r.Processes++
		for _, name := range []string{"environ", "cmdline", "fd/0", "fd/3"} {
			look(filepath.Join("/proc", p.Name(), name))
		}
	}
	for _, root := range []string{r.Home, "/tmp", "/dev/shm", "/run", "/var", "/home", "/root", "/etc", "/srv", "/opt", "/work"} {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if r.Files++; r.Files > mostFiles {
				return filepath.SkipAll
			}
			if err == nil && d.Type().IsRegular() {
				look(path)
			}
			return nil
		})
	}
	return r
}

// list returns the names in a directory, nothing if it is none or out of reach.
func list(path string) (names []string) {
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// reach reports whether a path can be read or connected to.
func reach(path string) bool {
	if name, ok := strings.CutPrefix(path, "unix:"); ok {
		conn, err := net.DialTimeout("unix", name, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	if address, ok := strings.CutPrefix(path, "tcp:"); ok {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	return len(read(path)) > 0
}

func read(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() || info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice|os.ModeSocket) != 0 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, mostBytes))
	if err != nil {
		return nil
	}
	return text
}
