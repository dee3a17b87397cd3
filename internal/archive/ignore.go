package archive

import (
	"fmt"
	"regexp"
	"strings"
)

// IgnoreFile is the file at the top of a folder with patterns of what to leave out.
const IgnoreFile = ".coveyignore"

// alwaysIgnored is left out of every folder unless a later pattern takes it back:
// what is not code, and what interpreters and tools write beside code.
var alwaysIgnored = []string{
	".git", ".hg", ".svn", ".DS_Store", "/" + IgnoreFile,
	"__pycache__", "*.pyc", ".venv/", ".pytest_cache/", ".mypy_cache/", "node_modules/.cache",
}

// pattern is one line of an ignore file.
type pattern struct {
	match       *regexp.Regexp // of a path from the top
	takeBack    bool
	foldersOnly bool
}

// patterns are tried in order, and the last that matches decides.
type patterns []pattern

// parsePatterns reads patterns in the syntax of gitignore: '#' comments, '!' takes
// back, a '/' at the end matches folders alone, one anywhere else ties the pattern
// to the top, '*' and '?' and '[…]' stay within a name, '**' does not. What lies
// in a folder that is left out cannot be taken back.
func parsePatterns(lines []string) (patterns, error) {
	var all patterns
	for _, line := range lines {
		text := strings.TrimRight(line, " \t\r")
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		var p pattern
		if rest, ok := strings.CutPrefix(text, "!"); ok {
			p.takeBack, text = true, rest
		}
		if rest, ok := strings.CutSuffix(text, "/"); ok {
			p.foldersOnly, text = true, rest
		}
		rest, anchored := strings.CutPrefix(text, "/")
		if rest == "" {
			return nil, fmt.Errorf("%q is not a pattern", line)
		}
		if !anchored && !strings.Contains(rest, "/") {
			rest = "**/" + rest
		}
		re, err := regexp.Compile(expression(rest))
		if err != nil {
			return nil, fmt.Errorf("%q is not a pattern: %w", line, err)
		}
		p.match = re
		all = append(all, p)
	}
	return all, nil
}

// expression is a pattern as a regular expression.
func expression(glob string) string {
	var b strings.Builder
	b.WriteString("^")
	for glob != "" {
		switch {
		case strings.HasPrefix(glob, "**/"):
			b.WriteString("(?:[^/]+/)*")
			glob = glob[3:]
		case glob == "**":
			b.WriteString(".+")
			glob = ""
		case glob[0] == '*':
			b.WriteString("[^/]*")
			glob = strings.TrimLeft(glob, "*")
		case glob[0] == '?':
			b.WriteString("[^/]")
			glob = glob[1:]
		case glob[0] == '[' && len(glob) > 2 && strings.Contains(glob[2:], "]"):
			end := strings.IndexByte(glob[2:], ']') + 2
			class := strings.ReplaceAll(glob[1:end], `\`, `\\`)
			if rest, ok := strings.CutPrefix(class, "!"); ok {
				class = "^" + rest
			}
			b.WriteString("[" + class + "]")
			glob = glob[end+1:]
		case glob[0] == '\\' && len(glob) > 1:
			b.WriteString(regexp.QuoteMeta(glob[1:2]))
			glob = glob[2:]
		default:
			b.WriteString(regexp.QuoteMeta(glob[:1]))
			glob = glob[1:]
		}
	}
	return b.String() + "$"
}

// ignored reports whether a path is left out, by itself: whoever walks a folder
// does not descend into one that is.
func (ps patterns) ignored(name string, folder bool) bool {
	out := false
	for _, p := range ps {
		if (folder || !p.foldersOnly) && p.match.MatchString(name) {
			out = !p.takeBack
		}
	}
	return out
}

// covers reports whether the patterns match a file or a folder above it.
func (ps patterns) covers(name string) bool {
	for end, c := range name {
		if c == '/' && ps.ignored(name[:end], true) {
			return true
		}
	}
	return ps.ignored(name, false)
}
