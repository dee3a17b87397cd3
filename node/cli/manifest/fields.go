package manifest

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/covey-dev/covey/cluster/state"
	"github.com/covey-dev/covey/executor/sandbox"
)

// reader reads the value of one key into the manifest. Problems that have lines
// of their own go to the parser, one of the value as a whole is returned.
type reader func(p *parser, value *yaml.Node) error

// fields are the keys of the file.
func fields() map[string]reader {
	return map[string]reader{
		"name":         text(func(m *Manifest) *string { return &m.Name }, checkName),
		"app":          text(func(m *Manifest) *string { return &m.App }, checkApp),
		"description":  text(func(m *Manifest) *string { return &m.Description }, nil),
		"runtime":      text(func(m *Manifest) *string { return &m.Runtime }, CheckRuntime),
		"handler":      text(func(m *Manifest) *string { return &m.Handler }, nil),
		"build":        text(func(m *Manifest) *string { return &m.Build }, nil),
		"code":         text(func(m *Manifest) *string { return &m.Code }, checkPath),
		"memory":       readMemory,
		"timeout":      duration(func(m *Manifest) *time.Duration { return &m.Timeout }),
		"startTimeout": duration(func(m *Manifest) *time.Duration { return &m.StartTimeout }),
		"idleTTL":      duration(func(m *Manifest) *time.Duration { return &m.IdleTTL }),
		"concurrency":  count(1, func(m *Manifest) *uint32 { return &m.Concurrency }),
		"min":          count(0, func(m *Manifest) *uint32 { return &m.Min }),
		"max":          count(0, func(m *Manifest) *uint32 { return &m.Max }),
		"reserved":     count(0, func(m *Manifest) *uint32 { return &m.Reserved }),
		"provisioned":  readProvisioned,
		"rate":         readRate,
		"queue":        count(0, func(m *Manifest) *uint32 { m.Queue = new(uint32); return m.Queue }),
		"idempotent":   truth(func(m *Manifest) *bool { return &m.Idempotent }),
		"affinity":     truth(func(m *Manifest) *bool { return &m.Affinity }),
		"place":        readPlace,
		"minSandbox":   readSandbox,
		"env":          pairs(func(m *Manifest) *map[string]string { return &m.Env }, checkVariable),
		"labels":       pairs(func(m *Manifest) *map[string]string { return &m.Labels }, nil),
		"include":      list(func(m *Manifest) *[]string { return &m.Include }),
		"exclude":      list(func(m *Manifest) *[]string { return &m.Exclude }),
	}
}

// word reads a scalar that must be text.
func word(value *yaml.Node) (string, error) {
	switch {
	case value.Kind != yaml.ScalarNode:
		return "", errors.New("must be one piece of text")
	case value.ShortTag() != "!!str":
		return "", fmt.Errorf("must be text: write %q, with the quotes", value.Value)
	case value.Value == "":
		return "", errors.New("is empty: delete the line for the default")
	}
	return value.Value, nil
}

func text(field func(*Manifest) *string, check func(string) error) reader {
	return func(p *parser, value *yaml.Node) error {
		s, err := word(value)
		if err == nil && check != nil {
			err = check(s)
		}
		if err == nil {
			*field(&p.m) = s
		}
		return err
	}
}

func checkName(s string) error { return state.CheckFunctionName(state.FunctionName(s)) }
func checkApp(s string) error  { return state.CheckAppName(state.AppName(s)) }

// CheckRuntime says that there is no such runtime, and which one was meant.
func CheckRuntime(s string) error {
	if slices.Contains(Runtimes(), s) {
		return nil
	}
	return fmt.Errorf("there is no runtime %q%s", s, nearest(s, Runtimes()))
}

func checkPath(s string) error {
	if path.IsAbs(s) || slices.Contains(strings.Split(s, "/"), "..") {
		return fmt.Errorf("%q leads outside of the folder", s)
	}
	return nil
}

func readMemory(p *parser, value *yaml.Node) error {
	if tag := value.ShortTag(); value.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!int" {
		return errors.New("must be a size such as 256MiB")
	}
	n, err := ParseSize(value.Value)
	if err == nil && n == 0 {
		err = errors.New("is 0: delete the line for the default")
	}
	p.m.Memory = n
	return err
}

// span is the part of Go's form of durations that the schema describes too.
var span = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)

func duration(field func(*Manifest) *time.Duration) reader {
	return func(p *parser, value *yaml.Node) error {
		if tag := value.ShortTag(); tag == "!!int" || tag == "!!float" {
			return fmt.Errorf("%s has no unit: write %ss for seconds, or a unit of ms, m or h", value.Value, value.Value)
		}
		d, err := time.ParseDuration(value.Value)
		if err != nil || value.Kind != yaml.ScalarNode || !span.MatchString(value.Value) {
			return fmt.Errorf("%q is not a time such as 30s, 1m30s or 500ms", value.Value)
		}
		if d < time.Millisecond || d%time.Millisecond != 0 {
			return fmt.Errorf("%q must be some whole milliseconds", value.Value)
		}
		*field(&p.m) = d
		return nil
	}
}

func count(least uint64, field func(*Manifest) *uint32) reader {
	return func(p *parser, value *yaml.Node) error {
		n, err := strconv.ParseUint(value.Value, 10, 32)
		if value.ShortTag() != "!!int" || err != nil || n < least {
			return fmt.Errorf("must be a whole number from %d on", least)
		}
		*field(&p.m) = uint32(n)
		return nil
	}
}

func truth(field func(*Manifest) *bool) reader {
	return func(p *parser, value *yaml.Node) error {
		if value.ShortTag() != "!!bool" {
			return errors.New("must be true or false")
		}
		return value.Decode(field(&p.m))
	}
}

// readPlace reads the labels that a node must have.
func readPlace(p *parser, value *yaml.Node) error {
	before := len(p.problems)
	if err := pairs(func(m *Manifest) *map[string]string { return &m.Place }, nil)(p, value); err != nil || len(p.problems) > before {
		return err
	}
	if n := len(p.m.Place); n > state.MaxNodeLabels {
		return fmt.Errorf("has %d labels, at most %d are allowed", n, state.MaxNodeLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(p.m.Place)) {
		if err := state.CheckNodeLabel(name, p.m.Place[name]); err != nil {
			return err
		}
	}
	return nil
}

func readSandbox(p *parser, value *yaml.Node) error {
	s, err := word(value)
	if err != nil {
		return err
	}
	p.m.MinSandbox, err = sandbox.ParseLevel(s)
	return err
}

// variable is a name that every shell and runtime can set and read.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkVariable(name string) error {
	if !variable.MatchString(name) {
		return fmt.Errorf("%q is not a variable that can be set: use letters, digits and '_'", name)
	}
	return nil
}

// pairs reads names with values. A number or a truth value is taken as it is
// written, since an environment knows text only.
func pairs(field func(*Manifest) *map[string]string, check func(string) error) reader {
	return func(p *parser, value *yaml.Node) error {
		m := map[string]string{}
		p.mapping(value, "this", func(key, value *yaml.Node) {
			if check != nil {
				if err := check(key.Value); err != nil {
					p.bad(key, "%v", err)
				}
			}
			if value.Kind != yaml.ScalarNode || value.ShortTag() == "!!null" {
				// The value may be a secret: it is not shown.
				p.bad(key, "%s must have one piece of text as its value; write \"\" for none", key.Value)
			}
			m[key.Value] = value.Value
		})
		*field(&p.m) = m
		return nil
	}
}

// list reads patterns, or one alone.
func list(field func(*Manifest) *[]string) reader {
	return func(p *parser, value *yaml.Node) error {
		items := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			items = value.Content
		}
		var all []string
		for _, item := range items {
			s, err := word(follow(item))
			if err != nil {
				return fmt.Errorf("each pattern %w", err)
			}
			all = append(all, s)
		}
		*field(&p.m) = all
		return nil
	}
}

// suggestion helps with a key that does not exist.
func suggestion(key string) string {
	return nearest(key, slices.Sorted(maps.Keys(fields())))
}
