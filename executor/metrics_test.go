package executor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-dev/covey/plugins"
)

// series reads the executor's metrics by name and labels, those without a value
// and histograms left out.
func series(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			name := fmt.Sprint(strings.TrimPrefix(f.GetName(), "covey_executor_"), labels)
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v != 0 {
				out[name] = v
			}
		}
	}
	return out
}

func TestMetricsTellDepthLimitDropsStartsAndStates(t *testing.T) {
	var b *barrier
	registry := prometheus.NewRegistry()
	onFakes(t, func(cfg *Config, l *fakeLauncher) {
		b = newBarrier()
		l.handler = b.handle
		cfg.Registerer, cfg.Memory = registry, 1<<30
	}, func(t *testing.T, r *rig) {
		spec := testSpec(func(s *Spec) { s.Max, s.Queue = 1, 1 })
		done := make(chan error, 3)
		for range 3 {
			go func() { done <- r.call(t.Context(), spec, "r") }()
			synctest.Wait()
		}
		want := map[string]float64{
			"in_flight[default/hello]":                1,
			"instances[default/hello busy]":           1,
			"memory_budget_bytes[]":                   1 << 30,
			"memory_reserved_bytes[]":                 128 << 20,
			"queue_depth[default/hello]":              1,
			"queue_limit[default/hello]":              1,
			"start_limit[]":                           1000,
			"refused_total[default/hello queue_full]": 1,
			"starts_total[default/hello ok]":          1,
		}
		if diff := cmp.Diff(want, series(t, registry)); diff != "" {
			t.Errorf("while one call runs (-want +got):\n%s", diff)
		}
		close(b.open)
		for range 3 {
			<-done
		}
		want = map[string]float64{
			"calls_total[default/hello ok]":           2,
			"cold_calls_total[default/hello]":         1,
			"instances[default/hello ready]":          1,
			"memory_budget_bytes[]":                   1 << 30,
			"memory_reserved_bytes[]":                 128 << 20,
			"queue_limit[default/hello]":              1,
			"start_limit[]":                           1000,
			"refused_total[default/hello queue_full]": 1,
			"starts_total[default/hello ok]":          1,
		}
		if diff := cmp.Diff(want, series(t, registry)); diff != "" {
			t.Errorf("afterwards (-want +got):\n%s", diff)
		}
		r.Reconcile(nil)
		time.Sleep(2 * time.Second)
		if diff := cmp.Diff(map[string]float64{"memory_budget_bytes[]": 1 << 30, "start_limit[]": 1000}, series(t, registry)); diff != "" {
			t.Errorf("without the function (-want +got):\n%s", diff)
		}
	})
	if left := series(t, registry); len(left) != 0 {
		t.Errorf("after Run are left: %v", left)
	}
}

func TestOutcomesAreTold(t *testing.T) {
	cases := []struct {
		want    string
		handler handler
	}{
		{"ok", echo},
		{"timeout", hang},
		{"function_error", func(context.Context, *fakeInstance, *plugins.Call) (*plugins.Reply, error) {
			return nil, &plugins.FunctionError{}
		}},
		{"lost", func(ctx context.Context, f *fakeInstance, _ *plugins.Call) (*plugins.Reply, error) {
			f.exit(stateOf(1))
			<-ctx.Done()
			return nil, ctx.Err()
		}},
	}
	for _, c := range cases {
		t.Run(c.want, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			onFakes(t, func(cfg *Config, l *fakeLauncher) {
				cfg.Registerer, l.handler = registry, c.handler
			}, func(t *testing.T, r *rig) {
				_ = r.call(t.Context(), testSpec(), "r")
				for name, n := range series(t, registry) {
					if strings.HasPrefix(name, "calls_total") && name != "calls_total[default/hello "+c.want+"]" {
						t.Errorf("%s is %v", name, n)
					}
				}
				if n := series(t, registry)["calls_total[default/hello "+c.want+"]"]; n != 1 {
					t.Errorf("%v calls are told, want 1", n)
				}
			})
		})
	}
}
