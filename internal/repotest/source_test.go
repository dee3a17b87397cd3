package repotest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Budgets of the style guide: where a file or a function must be split.
const (
	maxSourceLines   = 800
	maxTestLines     = 1000
	maxFunctionLines = 100
	maxReadmeLines   = 200
)

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

type source struct {
	path string // relative to the root of the repository
	text string
	fset *token.FileSet
	file *ast.File
}

// sources parses every Go file of the repository that a person wrote.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git" || d.Name() == "build"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(p) != ".go":
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if generated.Match(text) {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		all = append(all, source{path: rel, text: string(text), fset: fset, file: file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	return all
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func TestFilesAndFunctionsStayWithinTheirBudget(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		limit := maxSourceLines
		if s.test() {
			limit = maxTestLines
		}
		if n := strings.Count(s.text, "\n"); n > limit {
			t.Errorf("%s has %d lines, over %d: split it by idea", s.path, n, limit)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && !s.test() && s.lines(f) > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, over %d", s.path, f.Name.Name, s.lines(f), maxFunctionLines)
			}
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	t.Parallel()
	has := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		dir := filepath.Dir(s.path)
		has[dir] = has[dir] || s.file.Doc != nil
	}
	for dir, ok := range has {
		if !ok {
			t.Errorf("%s: no file has a package comment", dir)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && d.Recv == nil {
					t.Errorf("%s: func %s has no comment", s.path, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: type %s has no comment", s.path, ts.Name.Name)
					}
				}
			}
		}
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	t.Parallel()
	// A cause printed with %v or %s can no longer be matched by callers.
	lost := regexp.MustCompile(`fmt\.Errorf\("[^"]*%[vs]"(?:, [^)]*)?, (?:err|cause)\)`)
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, m := range lost.FindAllString(s.text, -1) {
			if !strings.Contains(m, "%w") {
				t.Errorf("%s: %s loses its cause: use %%w", s.path, m)
			}
		}
		if strings.Contains(s.text, "err.Error() ==") || strings.Contains(s.text, "strings.Contains(err.Error()") {
			t.Errorf("%s compares error text", s.path)
		}
	}
}

// needsInit are the files whose func init cannot be a constructor's work.
var needsInit = map[string]bool{
	// Must come before the package-level code of a function, which may start
	// programs that would inherit the data plane.
	"plugins/sdk/go/runtime.go": true,
}

func TestPackagesKeepNoMutableState(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !needsInit[filepath.ToSlash(s.path)] {
				t.Errorf("%s: func init does work at import", s.path)
			}
		}
	}
}

func TestStateReadsNoClock(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if filepath.Dir(s.path) != filepath.Join("cluster", "state") || s.test() {
			continue
		}
		for _, banned := range []string{"time.Now", "time.Since", "time.Until", "go func"} {
			if strings.Contains(s.text, banned) {
				t.Errorf("%s uses %s: replicas would differ", s.path, banned)
			}
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	t.Parallel()
	// Inside testing/synctest a sleep takes no time and is how time passes.
	for _, s := range sources(t) {
		if s.test() && strings.Contains(s.text, "time.Sleep(") && !strings.Contains(s.text, `"testing/synctest"`) {
			t.Errorf("%s sleeps: poll for the condition, or use testing/synctest", s.path)
		}
	}
}

func TestNoLeftovers(t *testing.T) {
	t.Parallel()
	todo := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	issue := regexp.MustCompile(`#\d+`)
	for _, s := range sources(t) {
		if strings.HasPrefix(s.path, filepath.Join("internal", "repotest")) {
			continue
		}
		for i, line := range strings.Split(s.text, "\n") {
			if todo.MatchString(line) && !issue.MatchString(line) {
				t.Errorf("%s:%d: a TODO without an issue number", s.path, i+1)
			}
		}
	}
}

func TestReadmeFitsOnAFewScreens(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n >= maxReadmeLines {
		t.Errorf("README.md has %d lines, the limit is %d", n, maxReadmeLines)
	}
	for _, command := range []string{"make demo", "make test"} {
		if !strings.Contains(string(text), command) {
			t.Errorf("README.md does not mention %q", command)
		}
	}
}
