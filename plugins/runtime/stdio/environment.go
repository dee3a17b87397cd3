package stdio

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	covey "github.com/covey-dev/covey/plugins/sdk/go"
)

// Environment returns base and the variables that describe a call. All but the first four are there only if
// the call has something to say:
//
//	COVEY_REQUEST_ID    the same in every attempt at one call
//	COVEY_ATTEMPT       counts from 1
//	COVEY_APP, COVEY_FUNCTION, COVEY_VERSION
//	COVEY_NODE          the id of the node
//	COVEY_DEADLINE_MS   when the caller gives up, in milliseconds since 1970
//	COVEY_CONTENT_TYPE  the payload's
//	COVEY_TRACE         a W3C traceparent
//	COVEY_DEPTH         how many functions called each other up to this call
//	COVEY_ATTRIBUTES    the attributes as a JSON object
//	COVEY_ATTR_NAME     each of them by itself, its name in capitals with _ for what is no letter or digit
//
// The strings of base are shared with the result.
func Environment(base []string, i covey.Invocation) []string {
	env := make([]string, len(base), len(base)+10+len(i.Attributes))
	copy(env, base)
	env = append(env,
		"COVEY_REQUEST_ID="+i.RequestID,
		"COVEY_ATTEMPT="+strconv.Itoa(i.Attempt),
		"COVEY_APP="+i.App,
		"COVEY_FUNCTION="+i.Function,
		"COVEY_VERSION="+strconv.FormatUint(i.Version, 10),
	)
	add := func(name, value string) {
		// The kernel ends a variable at a zero byte, so nobody else can be trusted with the rest.
		if value != "" && strings.IndexByte(value, 0) < 0 {
			env = append(env, name+"="+value)
		}
	}
	add("COVEY_NODE", i.Node)
	if !i.Deadline.IsZero() {
		add("COVEY_DEADLINE_MS", strconv.FormatInt(i.Deadline.UnixMilli(), 10))
	}
	add("COVEY_CONTENT_TYPE", i.ContentType)
	add("COVEY_TRACE", i.Trace)
	if i.Depth > 0 {
		add("COVEY_DEPTH", strconv.Itoa(i.Depth))
	}
	if len(i.Attributes) == 0 {
		return env
	}
	if all, err := json.Marshal(i.Attributes); err == nil {
		add("COVEY_ATTRIBUTES", string(all))
	}
	for name, value := range i.Attributes {
		add("COVEY_ATTR_"+variable(name), value)
	}
	return env
}

// variable makes a name that shells take.
func variable(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, name)
}

// Base returns the environment that all calls share: the process's own without what concerns the platform, and over
// it the function's. hidden names variables of the function's that are not for the program.
func Base(own []string, s *covey.Setup, hidden ...string) []string {
	var env []string
	for _, v := range own {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "COVEY_") || strings.HasPrefix(name, "PLUGIN_") || s.Env.Get(name) != "" {
			continue
		}
		env = append(env, v)
	}
	for _, a := range s.Env {
		if !slices.Contains(hidden, a.Name) {
			env = append(env, a.Name+"="+a.Value)
		}
	}
	return env
}
