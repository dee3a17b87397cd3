package manifest

import (
	"errors"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/covey-dev/covey/node/client/wire"
)

// number reads a whole number.
func number(value *yaml.Node, least uint64) (uint32, error) {
	n, err := strconv.ParseUint(value.Value, 10, 32)
	if value.ShortTag() != "!!int" || err != nil || n < least {
		return 0, fmt.Errorf("must be a whole number from %d on", least)
	}
	return uint32(n), nil
}

// readProvisioned reads a number of instances for all times, or a list of windows.
func readProvisioned(p *parser, value *yaml.Node) error {
	if value.Kind == yaml.ScalarNode {
		n, err := number(value, 1)
		p.m.Provisioned = []wire.Provision{{Count: n}}
		return err
	}
	if value.Kind != yaml.SequenceNode {
		return errors.New("must be a number of instances, or a list of windows")
	}
	for _, item := range value.Content {
		item = follow(item)
		w, sound := wire.Provision{}, true
		bad := func(node *yaml.Node, format string, args ...any) {
			sound = false
			p.bad(node, "provisioned: "+format, args...)
		}
		texts := map[string]*string{"from": &w.From, "to": &w.To, "days": &w.Days, "zone": &w.Zone}
		p.mapping(item, "each window", func(key, value *yaml.Node) {
			var err error
			switch field := texts[key.Value]; {
			case key.Value == "count":
				w.Count, err = number(value, 1)
			case field != nil:
				*field, err = word(value)
			default:
				bad(key, "unknown key %q", key.Value)
			}
			if err != nil {
				bad(value, "%s %v", key.Value, err)
			}
		})
		if err := w.Check(); err != nil && sound && item.Kind == yaml.MappingNode {
			bad(item, "%v", err)
		}
		p.m.Provisioned = append(p.m.Provisioned, w)
	}
	return nil
}

// readRate reads calls a second, or those and a burst.
func readRate(p *parser, value *yaml.Node) error {
	r := &wire.Rate{}
	p.m.Rate = r
	if value.Kind == yaml.ScalarNode {
		var err error
		r.PerSecond, err = number(value, 1)
		return err
	}
	sound := true
	p.mapping(value, "this", func(key, value *yaml.Node) {
		var err error
		switch key.Value {
		case "perSecond":
			r.PerSecond, err = number(value, 1)
		case "burst":
			r.Burst, err = number(value, 1)
		default:
			err = errors.New("is no key of it: there are perSecond and burst")
		}
		if err != nil {
			sound = false
			p.bad(key, "rate: %s %v", key.Value, err)
		}
	})
	if sound && r.PerSecond == 0 {
		return errors.New("needs perSecond")
	}
	return nil
}
