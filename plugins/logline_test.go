package plugins

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseLogLine(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	stamp := time.Date(2020, 1, 1, 0, 0, 0, 250_000_000, time.UTC)
	cases := []struct {
		name, line string
		want       LogLine
	}{
		{"plain", "hello\r\n", LogLine{Time: now, Message: "hello"}},
		{"empty", "", LogLine{Time: now}},
		{"broken JSON", `{"@message":`, LogLine{Time: now, Message: `{"@message":`}},
		{"other JSON", `{"msg":"x"}`, LogLine{Time: now, Message: `{"msg":"x"}`}},
		{
			"hclog", `{"@level":"warn","@message":"low on seed","@timestamp":"2020-01-01T00:00:00.250000Z","request_id":"01J","left":3}`,
			LogLine{Time: stamp, Level: "warn", Message: "low on seed", RequestID: "01J", Fields: []byte(`{"left":3}`)},
		},
		{
			"wrong types", `{"@level":7,"@message":"m","@timestamp":"yesterday","request_id":null}`,
			LogLine{Time: now, Message: "m", Fields: []byte(`{"@level":7}`)},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, ParseLogLine([]byte(c.line), now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseLogLine(f *testing.F) {
	f.Add([]byte(`{"@message":"m","request_id":"r","x":[1]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if l := ParseLogLine(line, time.Unix(0, 0)); l.Time.IsZero() && l.Level == "" {
			t.Errorf("%q lost its time", line)
		}
	})
}
