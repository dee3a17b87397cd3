package state

import (
	"time"

	"github.com/covey-dev/covey/cluster/clusterpb"
)

// App is a namespace. It exists while it has functions or limits. Shared: do
// not change it.
type App struct {
	Name AppName
	// Limits is never nil; a zero field means no limit. Read-only.
	Limits *clusterpb.Limits
	// Functions is how many there are.
	Functions int
	Created   time.Time
}

func appFromPB(p *clusterpb.App) *App {
	a := &App{
		Name: AppName(p.GetName()), Limits: p.GetLimits(), Functions: int(p.GetFunctions()),
		Created: fromMillis(p.GetCreatedUnixMs()),
	}
	if a.Limits == nil {
		a.Limits = &clusterpb.Limits{}
	}
	return a
}

func (a *App) toPB() *clusterpb.App {
	return &clusterpb.App{
		Name: string(a.Name), Limits: a.Limits, Functions: uint32(a.Functions), CreatedUnixMs: millis(a.Created),
	}
}
