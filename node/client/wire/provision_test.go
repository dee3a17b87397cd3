package wire

import (
	"strings"
	"testing"
)

func TestDaysReadAndShow(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		set   uint32
		shown string
	}{
		"":            {0, ""},
		"mon-fri":     {0b0111110, "mon-fri"},
		"Sat,sun":     {0b1000001, "sun,sat"},
		"fri-mon":     {0b1100011, "sun,mon,fri,sat"},
		"tue+thu":     {0b0010100, "tue,thu"},
		"sun-sat":     {0b1111111, "mon-fri,sun,sat"},
		"mon-fri,sat": {0b1111110, "mon-fri,sat"},
	} {
		set, err := DaySet(text)
		if err != nil || set != want.set || DayNames(set) != want.shown {
			t.Errorf("%q is %b, shown as %q: %v", text, set, DayNames(set), err)
		}
		if again, err := DaySet(DayNames(set)); err != nil || again != set {
			t.Errorf("%q does not survive: %b, %v", text, again, err)
		}
	}
	for _, text := range []string{"monday", "mo", "mon-", "n m", "mon-fri-sat"} {
		if set, err := DaySet(text); err == nil {
			t.Errorf("%q is %b", text, set)
		}
	}
}

func TestWindowsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := Provision{Count: 4, From: "08:00", To: "24:00", Days: "mon-fri", Zone: "Europe/Berlin"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for words, change := range map[string]func(*Provision){
		"count":             func(p *Provision) { p.Count = 0 },
		"go together":       func(p *Provision) { p.To = "" },
		"from: \"8:00\"":    func(p *Provision) { p.From = "8:00" },
		"begins at 00:00":   func(p *Provision) { p.From = "24:00" },
		"to: \"25:00\"":     func(p *Provision) { p.To = "25:00" },
		"days: \"weekday\"": func(p *Provision) { p.Days = "weekday" },
		"no time zone":      func(p *Provision) { p.Zone = "Mars/Base" },
	} {
		p := good
		change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v, want %q", p, err, words)
		}
	}
	for minutes, text := range map[uint32]string{0: "00:00", 485: "08:05", 1440: "24:00"} {
		if got, err := MinutesOfDay(text); err != nil || got != minutes || TimeOfDay(minutes) != text {
			t.Errorf("%s is %d, shown as %s: %v", text, got, TimeOfDay(minutes), err)
		}
	}
}
