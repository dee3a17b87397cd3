package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Provision keeps instances warm at certain times of the week.
type Provision struct {
	// Count is how many instances are warm in the whole cluster. Of windows that
	// overlap, and of Min, the greatest counts.
	Count uint32 `json:"count"`
	// From and To are times of day such as 08:00; To is not part of the window and may
	// be 24:00, or lie on the next day. Both empty means the whole day.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Days are those on which the window begins, such as mon-fri or sat,sun; empty
	// means every day.
	Days string `json:"days,omitempty"`
	// Zone is a name of the time zone database; empty means UTC.
	Zone string `json:"zone,omitempty"`
}

// Rate bounds the calls of a function that enter at one node.
type Rate struct {
	PerSecond uint32 `json:"per_second"`
	// Burst is how many calls may come at once, at least PerSecond.
	Burst uint32 `json:"burst,omitempty"`
}

// days are the names of the days, in Go's order.
const days = "sun mon tue wed thu fri sat"

// MinutesOfDay reads a time of day such as 08:00 or 24:00.
func MinutesOfDay(text string) (uint32, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	at, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time of day such as 08:00", text)
	}
	return uint32(at.Hour()*60 + at.Minute()), nil
}

// TimeOfDay is the inverse of MinutesOfDay.
func TimeOfDay(minutes uint32) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

// DaySet reads days: bit 0 is Sunday. No text is every day, as 0. Both ',' and '+'
// separate, and a range such as fri-mon may lead over the end of the week.
func DaySet(text string) (set uint32, err error) {
	if text == "" {
		return 0, nil
	}
	for _, part := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r == ',' || r == '+' || r == ' ' }) {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		first, last := dayOf(from), dayOf(to)
		if first < 0 || last < 0 {
			return 0, fmt.Errorf("%q is not a list of days such as mon-fri or sat,sun", text)
		}
		for d := first; ; d = (d + 1) % 7 {
			set |= 1 << d
			if d == last {
				break
			}
		}
	}
	return set, nil
}

// dayOf is a day's number, or negative.
func dayOf(name string) int {
	if i := strings.Index(days, name); len(name) == 3 && i >= 0 && i%4 == 0 {
		return i / 4
	}
	return -1
}

// DayNames is the inverse of DaySet, without ranges but for mon-fri.
func DayNames(set uint32) string {
	const weekdays = 0b0111110
	var names []string
	if set&weekdays == weekdays {
		names, set = append(names, "mon-fri"), set&^weekdays
	}
	for i, name := range strings.Fields(days) {
		if set&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Check reports what is wrong with the window.
func (p Provision) Check() error {
	if p.Count == 0 {
		return errors.New("count must be a whole number from 1 on")
	}
	if (p.From == "") != (p.To == "") {
		return errors.New("from and to go together")
	}
	if p.From != "" {
		from, err := MinutesOfDay(p.From)
		if err != nil {
			return fmt.Errorf("from: %w", err)
		}
		if _, err := MinutesOfDay(p.To); err != nil {
			return fmt.Errorf("to: %w", err)
		}
		if from == 24*60 {
			return errors.New("from: the day begins at 00:00")
		}
	}
	if _, err := DaySet(p.Days); err != nil {
		return fmt.Errorf("days: %w", err)
	}
	if _, err := time.LoadLocation(p.Zone); err != nil || p.Zone == "Local" {
		return fmt.Errorf("zone: there is no time zone %q", p.Zone)
	}
	return nil
}
