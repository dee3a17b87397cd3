package manifest

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

const schemaFile = "../../../docs/covey.schema.json"

// document reads YAML as an editor that knows the schema does.
func document(t interface{ Fatal(args ...any) }, text string) any {
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSchemaDescribesEveryKey(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Description string
			Enum        []string
		}
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(fields())); !slices.Equal(got, want) {
		t.Errorf("the schema has %v, the parser %v", got, want)
	}
	for key, property := range schema.Properties {
		if property.Description == "" {
			t.Errorf("%s has no description", key)
		}
	}
	if got := schema.Properties["runtime"].Enum; !slices.Equal(got, Runtimes()) {
		t.Errorf("the schema's runtimes are %v", got)
	}
}

// TestSchemaAndParserAgree draws files out of good and bad values.
func TestSchemaAndParserAgree(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	values := []string{
		"a", "Ab-9_x", "a-", "\"\"", "\"5\"", "5", "0", "-1", "1.5", "4294967295", "4294967296", "true", "null", "[]", "[a, b]", "[a, 5]", "[\"\"]", "{}",
		"{A: 1}", "{A: x, B: true}", "{A: null}", "{A: [1]}", "{9A: 1}", "{a.b/c: x y}", "{\"a b\": x}", "{\"\": 1}", "go", "lambda", "isolated",
		"64MiB", "64 mb", "1g", "0MiB", "64Mib", "64MM", "30s", "1m30s", "500ms", "0s", "0h0m", "1.5s", ".5s", "-5s", "100us", "1d",
		"../x", "a/../b", "/x", "a/b", "a..b", "ä",
	}
	keys := slices.Sorted(maps.Keys(fields()))
	check := func(t *rapid.T, text string) {
		_, parsed := Parse("f", []byte(text))
		valid := schema.Validate(document(t, text))
		if (parsed == nil) != (valid == nil) {
			t.Fatalf("%s\nparser: %v\nschema: %v", text, parsed, valid)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfNDistinct(rapid.SampledFrom(append(keys, "other")), 1, 3, rapid.ID).Draw(t, "keys")
		var b strings.Builder
		for _, key := range chosen {
			b.WriteString(key + ": " + rapid.SampledFrom(values).Draw(t, "value") + "\n")
		}
		if strings.Contains(b.String(), "min:") && strings.Contains(b.String(), "max:") {
			t.Skip("no schema can compare two numbers")
		}
		check(t, b.String())
	})
	// Each value for each key once, whatever was drawn.
	for _, key := range keys {
		for _, value := range values {
			_, parsed := Parse("f", []byte(key+": "+value+"\n"))
			valid := schema.Validate(document(t, key+": "+value+"\n"))
			if (parsed == nil) != (valid == nil) {
				t.Errorf("%s: %s\nparser: %v\nschema: %v", key, value, parsed, valid)
			}
		}
	}
	if err := schema.Validate(document(t, whole)); err != nil {
		t.Error(err)
	}
}
