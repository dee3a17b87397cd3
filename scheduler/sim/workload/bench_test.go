package workload

import "testing"

// BenchmarkAzure reports the calls that are generated per second.
func BenchmarkAzure(b *testing.B) {
	for _, functions := range []int{1000, 10000} {
		b.Run(map[int]string{1000: "functions=1000", 10000: "functions=10000"}[functions], func(b *testing.B) {
			walk(b, must(b)(Azure(Config{Seed: 1, Functions: functions, CPUs: 1 << 20})))
		})
	}
}

// walk takes one call per iteration.
func walk(b *testing.B, w Workload) {
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for n < b.N {
		w.Calls(func(Call) bool { n++; return n < b.N })
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mcalls/s")
}

// BenchmarkMerge reports the calls per second of a background with a spike.
func BenchmarkMerge(b *testing.B) {
	back := must(b)(Azure(Config{Seed: 1, CPUs: 1 << 20}))
	walk(b, Merge("all", back, must(b)(Spike(SpikeConfig{Rate: 1e5}))))
}
