package frame

import "time"

// Setup is the body of a SETUP frame: the function that a runtime's process is to become, and what it may use.
// A process of a runtime is started before anybody knows for whom, and does nothing but wait for this.
type Setup struct {
	App, Function string
	Version       uint64
	// Handler names the entry point within Code, in the runtime's own form; empty means the runtime's default.
	Handler string
	// Code is the folder of the function's code as the process sees it. It is read-only.
	Code string
	// Cache is a folder for what can be computed from Code alone: writable while Preparing, read-only later,
	// and empty if nothing was prepared.
	Cache string
	// Memory is the instance's limit in bytes, zero for none.
	Memory uint64
	// Timeout is the longest that one call may take.
	Timeout time.Duration
	// Concurrency is how many calls come at once, at least 1.
	Concurrency uint32
	// Preparing asks to fill Cache and exit with status 0 instead of serving. READY is not sent.
	Preparing bool
	// Env is the function's whole environment.
	Env Attributes
}

var _ Appender = (*Setup)(nil)

// AppendTo appends the encoded message.
func (m *Setup) AppendTo(b []byte) []byte {
	b = AppendString(b, m.App)
	b = AppendString(b, m.Function)
	b = AppendUint(b, m.Version)
	b = AppendString(b, m.Handler)
	b = AppendString(b, m.Code)
	b = AppendString(b, m.Cache)
	b = AppendUint(b, m.Memory)
	b = AppendDuration(b, m.Timeout)
	b = AppendUint(b, uint64(m.Concurrency))
	preparing := uint64(0)
	if m.Preparing {
		preparing = 1
	}
	b = AppendUint(b, preparing)
	return AppendAttributes(b, m.Env)
}

// Parse decodes body into m.
func (m *Setup) Parse(body []byte) error {
	d := NewDecoder(body)
	m.App = d.String()
	m.Function = d.String()
	m.Version = d.Uint()
	m.Handler = d.String()
	m.Code = d.String()
	m.Cache = d.String()
	m.Memory = d.Uint()
	m.Timeout = d.Duration()
	m.Concurrency = max(d.uint32(), 1)
	m.Preparing = d.Uint() != 0
	m.Env = d.Attributes()
	return d.Err()
}
