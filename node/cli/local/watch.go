package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing may happen before a change counts as complete: an
	// editor saves in several steps.
	quiet = 80 * time.Millisecond
	// impatience bounds that wait where something writes all the time.
	impatience = 2 * time.Second
)

// Snapshot is what the files of a function look like at one moment.
type Snapshot map[string]stamp

type stamp struct {
	size int64
	at   time.Time
	mode fs.FileMode
}

// Changes lists the files that differ between two moments.
func (s Snapshot) Changes(later Snapshot) map[string]bool {
	changed := map[string]bool{}
	for name, st := range later {
		if s[name] != st {
			changed[name] = true
		}
	}
	for name := range s {
		if _, ok := later[name]; !ok {
			changed[name] = true
		}
	}
	return changed
}

// Watcher tells when the files of a function change.
type Watcher struct {
	path    string
	notify  *fsnotify.Watcher
	watched map[string]bool
}

// NewWatcher watches a folder with all below it, or one file. It must be closed.
func NewWatcher(path string) (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return &Watcher{path: path, notify: n, watched: map[string]bool{}}, nil
}

// Close ends the watching.
func (w *Watcher) Close() error { return w.notify.Close() }

// passed reports whether a name is of no interest: what tools keep for
// themselves, what editors leave while they save, and packages that others wrote,
// which are many.
func passed(name string) bool {
	switch name {
	case ".git", ".hg", ".svn", ".DS_Store", "__pycache__", ".venv", "node_modules", ".pytest_cache", ".mypy_cache", ".idea", "4913":
		return true
	}
	return strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".pyc") || strings.HasPrefix(name, ".#") ||
		strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".swp") || strings.HasSuffix(name, ".swx"))
}

// Look notes the files as they are, and watches folders that are new.
func (w *Watcher) Look() (Snapshot, error) {
	s := Snapshot{}
	err := filepath.WalkDir(w.path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != w.path:
			return nil // gone while looking: the change will be told
		case err != nil:
			return err
		case path != w.path && passed(d.Name()):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return w.watch(path)
		case path == w.path:
			// Editors replace a file, so its folder is watched.
			if err := w.watch(filepath.Dir(path)); err != nil {
				return err
			}
		}
		info, err := os.Stat(path) // a link counts as what it leads to
		if err == nil {
			s[path] = stamp{info.Size(), info.ModTime(), info.Mode()}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at files: %w", err)
	}
	return s, nil
}

// watch adds a folder.
func (w *Watcher) watch(dir string) error {
	if w.watched[dir] && slices.Contains(w.notify.WatchList(), dir) {
		return nil
	}
	if err := w.notify.Add(dir); err != nil {
		hint := ""
		if errors.Is(err, syscall.ENOSPC) {
			hint = " (the kernel watches no more folders: raise fs.inotify.max_user_watches)"
		}
		return fmt.Errorf("watch %s%s: %w", dir, hint, err)
	}
	w.watched[dir] = true
	return nil
}

// Wait returns the next state of the files that differs from s, once they have
// been left alone for a moment.
func (w *Watcher) Wait(ctx context.Context, s Snapshot) (Snapshot, error) {
	for {
		if err := w.settle(ctx); err != nil {
			return nil, err
		}
		now, err := w.Look()
		if err != nil {
			return nil, err
		}
		if !maps.Equal(s, now) {
			return now, nil
		}
	}
}

// settle blocks until something happened and then nothing for a moment.
func (w *Watcher) settle(ctx context.Context) error {
	var calm, late <-chan time.Time // nil until something happened
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-calm:
			return nil
		case <-late:
			return nil
		case err := <-w.notify.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch files: %w", err)
			}
			calm = time.After(quiet)
		case e := <-w.notify.Events:
			if passed(filepath.Base(e.Name)) {
				continue
			}
			calm = time.After(quiet)
			if late == nil {
				late = time.After(impatience)
			}
		}
	}
}
