package cli

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// pairs reads NAME=VALUE; a later one of a name outdoes an earlier one.
func pairs(flag string, items []string) (map[string]string, error) {
	if len(items) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(items))
	for _, item := range items {
		name, value, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			// The value may be a secret: name the flag, not what was given.
			return nil, usagef("%s: want NAME=VALUE", flag)
		}
		m[name] = value
	}
	return m, nil
}

// labelText writes labels as the flags take them.
func labelText(labels map[string]string) string {
	items := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		items = append(items, name+"="+labels[name])
	}
	return strings.Join(items, ",")
}

// readLines returns the lines of an env file but empty ones and comments.
func readLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read env file: %w", err)
	}
	defer f.Close()
	var lines []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read env file %s: %w", path, err)
	}
	return lines, nil
}
