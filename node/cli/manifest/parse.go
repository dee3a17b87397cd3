package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// parser collects problems while it fills in a manifest.
type parser struct {
	file     string
	m        Manifest
	problems []*Problem
}

func (p *parser) bad(n *yaml.Node, format string, args ...any) {
	p.problems = append(p.problems, &Problem{File: p.file, Line: n.Line, Text: fmt.Sprintf(format, args...)})
}

// Parse reads the text of a file, whose name is for complaints.
func Parse(name string, text []byte) (*Manifest, error) {
	p := &parser{file: name}
	var document yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&document)
	if errors.Is(err, io.EOF) {
		return &p.m, nil // empty, or comments alone
	}
	if err != nil {
		return nil, p.syntax(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &Problem{File: name, Text: "holds more than one document: leave one"}
	}
	p.mapping(document.Content[0], "the file", p.field)
	p.together(document.Content[0])
	if len(p.problems) > 0 {
		return nil, join(p.problems)
	}
	return &p.m, nil
}

// syntaxLine is the form of the library's complaints, which have no type.
var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

// syntax gives a complaint of the library our form.
func (p *parser) syntax(err error) error {
	problem := &Problem{File: p.file, Text: err.Error()}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		problem.Line, _ = strconv.Atoi(m[1]) // digits
		problem.Text = m[2]
	}
	return problem
}

// mapping walks the keys and values of a mapping.
func (p *parser) mapping(n *yaml.Node, what string, each func(key, value *yaml.Node)) {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		p.bad(n, "%s must be a mapping: lines like \"name: hello\"", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := follow(n.Content[i]), follow(n.Content[i+1])
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			p.bad(key, "a key must be a word")
			continue
		}
		if line := seen[key.Value]; line > 0 {
			p.bad(key, "%q is here a second time, first in line %d", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		each(key, value)
	}
}

// follow resolves an alias to what it stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// field reads one key of the file.
func (p *parser) field(key, value *yaml.Node) {
	read := fields()[key.Value]
	switch {
	case read == nil:
		p.bad(key, "unknown key %q%s", key.Value, suggestion(key.Value))
	case value.ShortTag() == "!!null":
		p.bad(key, "%s has no value: give one or delete the line", key.Value)
	default:
		if err := read(p, value); err != nil {
			p.bad(value, "%s: %v", key.Value, err)
		}
	}
}

// together checks what single keys do not show.
func (p *parser) together(document *yaml.Node) {
	if m := &p.m; m.Max > 0 && m.Min > m.Max {
		p.bad(document, "min is %d, more than max, which is %d", m.Min, m.Max)
	}
}
