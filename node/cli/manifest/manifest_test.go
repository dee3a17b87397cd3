package manifest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/covey-dev/covey/executor/sandbox"
	"github.com/covey-dev/covey/node/client/wire"
)

const whole = `# A function with everything.
name: resize
app: shop
description: makes pictures small
runtime: python
handler: main.handler
build: pip install -t vendor -r requirements.txt
code: dist
memory: 512MiB
timeout: 1m30s
startTimeout: 5s
idleTTL: 10m
concurrency: 4
queue: 0
min: 1
max: 8
reserved: 12
provisioned:
  - {count: 4, from: "08:00", to: "18:00", days: mon-fri, zone: Europe/Berlin}
  - count: 1
rate: {perSecond: 100, burst: 200}
idempotent: true
minSandbox: isolated
env:
  LEVEL: 3
  DEBUG: false
  NAME: quail
  EMPTY: ""
labels: {team: birds}
place: {disk: ssd, rack: 7}
affinity: true
include: ["*.py", vendor]
exclude: tests/
`

func TestParse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{
		Name: "resize", App: "shop", Description: "makes pictures small", Runtime: Python, Handler: "main.handler",
		Build: "pip install -t vendor -r requirements.txt", Code: "dist",
		Memory: 512 << 20, Timeout: 90 * time.Second, StartTimeout: 5 * time.Second, IdleTTL: 10 * time.Minute,
		Concurrency: 4, Queue: new(uint32), Min: 1, Max: 8, Reserved: 12, Rate: &wire.Rate{PerSecond: 100, Burst: 200},
		Provisioned: []wire.Provision{{Count: 4, From: "08:00", To: "18:00", Days: "mon-fri", Zone: "Europe/Berlin"}, {Count: 1}},
		Idempotent:  true, MinSandbox: sandbox.LevelIsolated,
		Env:   map[string]string{"LEVEL": "3", "DEBUG": "false", "NAME": "quail", "EMPTY": ""},
		Place: map[string]string{"disk": "ssd", "rack": "7"}, Affinity: true,
		Labels: map[string]string{"team": "birds"}, Include: []string{"*.py", "vendor"}, Exclude: []string{"tests/"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Load(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if m, err := Parse("f", []byte("# nothing\n")); err != nil || m.Name != "" {
		t.Errorf("comments alone: %v", err)
	}
}

// One line of text for each complaint, in the order of lines.
func TestParseReportsEverythingWithItsLine(t *testing.T) {
	t.Parallel()
	_, err := Parse("covey.yaml", []byte(`name: a/b
memmory: 64MiB
start_timeout: 5s
timeout: 30
memory: lots
runtime: pyton
max: 1
min: -2
queue: many
idempotent: sometimes
minSandbox: strong
env:
  OK: 1
  9: a
  LIST: [secret]
code: ../x
name: again
handler:
include: [5]
description: 2026
zzz: 1
`))
	want := `covey.yaml:1: name: function name "a/b": want 1 to 63 letters, digits, '-' or '_', with a letter or digit at both ends
covey.yaml:2: unknown key "memmory", did you mean "memory"?
covey.yaml:3: unknown key "start_timeout", did you mean "startTimeout"?
covey.yaml:4: timeout: 30 has no unit: write 30s for seconds, or a unit of ms, m or h
covey.yaml:5: memory: "lots" is not a size such as 256MiB
covey.yaml:6: runtime: there is no runtime "pyton", did you mean "python"?
covey.yaml:8: min: must be a whole number from 0 on
covey.yaml:9: queue: must be a whole number from 0 on
covey.yaml:10: idempotent: must be true or false
covey.yaml:11: minSandbox: unknown sandbox level "strong" (none, hidden, isolated, limited)
covey.yaml:14: "9" is not a variable that can be set: use letters, digits and '_'
covey.yaml:15: LIST must have one piece of text as its value; write "" for none
covey.yaml:16: code: "../x" leads outside of the folder
covey.yaml:17: "name" is here a second time, first in line 1
covey.yaml:18: handler has no value: give one or delete the line
covey.yaml:19: include: each pattern must be text: write "5", with the quotes
covey.yaml:20: description: must be text: write "2026", with the quotes
covey.yaml:21: unknown key "zzz"; there are affinity, app, build, code, concurrency, description, env, exclude, handler, idempotent, idleTTL, include, labels, max, memory, min, minSandbox, name, place, provisioned, queue, rate, reserved, runtime, startTimeout, timeout`
	if err == nil {
		t.Fatal("it passes")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	problem, ok := errors.AsType[*Problem](err)
	if !ok || problem.Line != 1 || strings.Contains(err.Error(), "secret") {
		t.Errorf("first problem %+v", problem)
	}
}

func TestParseRefusesOtherDocuments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: a\n  b: c\n":    "f:2: ",
		"- a\n":                "f:1: the file must be a mapping",
		"a: 1\n---\nb: 2\n":    "f: holds more than one document",
		"env: 5\n":             "f:1: this must be a mapping",
		"min: 3\nmax: 2\n":     "f:1: min is 3, more than max",
		"? [a]\n: b\n":         "a key must be a word",
		"timeout: 100us\n":     "is not a time",
		"timeout: 0s\n":        "whole milliseconds",
		"memory: 0\n":          "is 0",
		"memory: 9999999999G":  "is not a size",
		"name: \"\"\n":         "is empty",
		"concurrency: 0\n":     "from 1 on",
		"env: &e {A: 1}\nx: 1": "unknown key",
	} {
		if _, err := Parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("f", []byte("name: &n a\napp: *n\n")); err != nil {
		t.Errorf("an alias: %v", err)
	}
}

func TestTheGuideShowsAFileThatHolds(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../../docs/writing-functions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(guide), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the guide shows no covey.yaml")
	}
	if _, err := Parse("the guide", []byte(example)); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("env: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse("f", text)
		if (m == nil) == (err == nil) {
			t.Errorf("got %v and %v", m, err)
		}
	})
}

func TestGuaranteesReportTheirLines(t *testing.T) {
	t.Parallel()
	_, err := Parse("covey.yaml", []byte(`provisioned:
  - {count: 0}
  - {count: 2, from: "08:00"}
  - count: 1
    zones: UTC
  - 5
rate:
  burst: 4
`))
	want := `covey.yaml:2: provisioned: count must be a whole number from 1 on
covey.yaml:3: provisioned: from and to go together
covey.yaml:5: provisioned: unknown key "zones"
covey.yaml:6: each window must be a mapping: lines like "name: hello"
covey.yaml:8: rate: needs perSecond`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	m, err := Parse("covey.yaml", []byte("provisioned: 3\nrate: 10\n"))
	if err != nil || len(m.Provisioned) != 1 || m.Provisioned[0].Count != 3 || m.Rate.PerSecond != 10 {
		t.Errorf("the short forms are %+v: %v", m, err)
	}
}
