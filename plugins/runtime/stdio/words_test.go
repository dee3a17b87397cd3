package stdio

import (
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                          nil,
		"  \t\n":                    nil,
		"tool":                      {"tool"},
		" bin/tool  -x\t--y=z ":     {"bin/tool", "-x", "--y=z"},
		`tool 'one word' "two"`:     {"tool", "one word", "two"},
		`tool ''`:                   {"tool", ""},
		`a"b c"'d e'f`:              {"ab cd ef"},
		`a\ b \\ \"`:                {"a b", `\`, `"`},
		`"a\"b\\c\d"`:               {`a"b\c\d`},
		`'a\b'`:                     {`a\b`},
		`$HOME * > ;|&`:             {"$HOME", "*", ">", ";|&"},
		`"ünïcode " '` + "\n" + `'`: {"ünïcode ", "\n"},
	} {
		got, err := Words(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`'a`, `a"b`, `a\`} {
		if got, err := Words(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

// FuzzWords quotes any words and expects them back.
func FuzzWords(f *testing.F) {
	f.Add("a", "b c")
	f.Add("", `'"\`)
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, ""), strings.ToValidUTF8(b, "")
		quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
		got, err := Words(quote(a) + " " + quote(b))
		if err != nil || !slices.Equal(got, []string{a, b}) {
			t.Errorf("got %q, %v, want %q", got, err, []string{a, b})
		}
		_, _ = Words(a + b)
	})
}
