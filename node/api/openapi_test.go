package api

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/covey-dev/covey/node/client/wire"
)

// document is the part of openapi.yaml that the tests read.
type document struct {
	OpenAPI string                          `yaml:"openapi"`
	Paths   map[string]map[string]operation `yaml:"paths"`
	Parts   struct {
		Parameters map[string]parameter      `yaml:"parameters"`
		Responses  map[string]any            `yaml:"responses"`
		Schemas    map[string]map[string]any `yaml:"schemas"`
	} `yaml:"components"`
}

type operation struct {
	ID         string `yaml:"operationId"`
	Summary    string `yaml:"summary"`
	Security   []any  `yaml:"security"`
	Parameters []struct {
		Ref string `yaml:"$ref"`
	} `yaml:"parameters"`
	Responses map[string]any `yaml:"responses"`
}

type parameter struct {
	Name string `yaml:"name"`
	In   string `yaml:"in"`
}

func parseSpec(t *testing.T) document {
	t.Helper()
	var doc document
	if err := yaml.Unmarshal(spec, &doc); err != nil {
		t.Fatalf("parse openapi.yaml: %v", err)
	}
	return doc
}

func TestSpecDescribesTheRoutesAndNoOthers(t *testing.T) {
	t.Parallel()
	var served []string
	for _, rt := range routes() {
		path := strings.ReplaceAll(rt.path, "...}", "}")
		switch {
		case rt.path == "/":
		case rt.method == "":
			for _, m := range []string{"delete", "get", "head", "options", "patch", "post", "put"} {
				served = append(served, path+" "+m)
			}
		default:
			served = append(served, path+" "+strings.ToLower(rt.method))
		}
	}
	var described []string
	for path, operations := range parseSpec(t).Paths {
		for method := range operations {
			described = append(described, path+" "+method)
		}
	}
	slices.Sort(served)
	slices.Sort(described)
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("routes (-) and openapi.yaml (+) differ:\n%s", diff)
	}
}

func TestSpecNamesEachPathParameterAndTellsWhatIsOpen(t *testing.T) {
	t.Parallel()
	doc := parseSpec(t)
	ids := map[string]string{}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			where := method + " " + path
			if other, ok := ids[op.ID]; ok || op.ID == "" {
				t.Errorf("%s: operationId %q is empty or also %s", where, op.ID, other)
			}
			ids[op.ID] = where
			if op.Summary == "" || len(op.Responses) == 0 {
				t.Errorf("%s has no summary or no responses", where)
			}
			if open := path == "/livez" || path == "/readyz"; open != (op.Security != nil && len(op.Security) == 0) {
				t.Errorf("%s: security is %v", where, op.Security)
			}
			var in []string
			for _, p := range op.Parameters {
				known, ok := doc.Parts.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]
				if !ok {
					t.Errorf("%s: %s does not exist", where, p.Ref)
				}
				if known.In == "path" {
					in = append(in, known.Name)
				}
			}
			var want []string
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				want = append(want, m[1])
			}
			if diff := cmp.Diff(want, in); diff != "" {
				t.Errorf("%s: path parameters differ:\n%s", where, diff)
			}
		}
	}
}

func TestSpecReferencesExist(t *testing.T) {
	t.Parallel()
	doc := parseSpec(t)
	for _, m := range regexp.MustCompile(`#/components/(\w+)/(\w+)`).FindAllStringSubmatch(string(spec), -1) {
		ok := false
		switch m[1] {
		case "schemas":
			_, ok = doc.Parts.Schemas[m[2]]
		case "responses":
			_, ok = doc.Parts.Responses[m[2]]
		case "parameters":
			_, ok = doc.Parts.Parameters[m[2]]
		}
		if !ok {
			t.Errorf("%s is referred to and does not exist", m[0])
		}
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("openapi is %q", doc.OpenAPI)
	}
}

// TestSpecHasTheFieldsOfTheTypes keeps the schemas and package wire together.
func TestSpecHasTheFieldsOfTheTypes(t *testing.T) {
	t.Parallel()
	schemas := parseSpec(t).Parts.Schemas
	types := []any{
		wire.Problem{},
		wire.FunctionError{},
		wire.Artifact{},
		wire.FunctionSpec{},
		wire.DeployRequest{},
		wire.Version{},
		wire.Deployed{},
		wire.Alias{},
		wire.AliasChange{},
		wire.RollbackRequest{},
		wire.WarmRequest{},
		wire.WarmReport{},
		wire.WarmNode{},
		wire.Function{},
		wire.Placement{},
		wire.Share{},
		wire.Provision{},
		wire.Rate{},
		wire.Load{},
		wire.Upload{},
		wire.NodeStatus{},
		wire.Status{},
		wire.Check{},
		wire.DrainRequest{},
		wire.TokenRequest{},
		wire.Token{},
		wire.NewToken{},
		wire.JoinTokenRequest{},
		wire.JoinToken{},
		wire.App{},
		wire.Limits{},
		wire.LogLine{},
		wire.UsageRow{},
		wire.UsageReport{},
		wire.Top{},
		wire.TopNode{},
		wire.TopFunction{},
		wire.Step{},
		wire.Usage{},
		wire.Record{},
		wire.AttemptRecord{},
	}
	for _, value := range types {
		typ := reflect.TypeOf(value)
		properties, _ := schemas[typ.Name()]["properties"].(map[string]any)
		var described []string
		for name := range properties {
			described = append(described, name)
		}
		fields := jsonFields(typ)
		slices.Sort(fields)
		slices.Sort(described)
		if diff := cmp.Diff(fields, described); diff != "" {
			t.Errorf("%s: fields (-) and schema (+) differ:\n%s", typ.Name(), diff)
		}
	}
	if len(schemas) != len(types) {
		t.Errorf("%d schemas for %d types", len(schemas), len(types))
	}
}

func jsonFields(typ reflect.Type) []string {
	var names []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous && f.Tag == "" {
			names = append(names, jsonFields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func TestSpecIsServed(t *testing.T) {
	t.Parallel()
	n := newFakeNode(t)
	w := do(newServer(t, n), "GET", "/v1/openapi.yaml", n.reader, "")
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), "openapi: 3.1") {
		t.Error(fmt.Sprint(w.Code, w.Body.String()[:20]))
	}
}
