package nodejs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-dev/covey/plugins"
)

var benchFunctions = map[string]map[string]string{
	"cjs": {"index.js": `exports.handler = async (event) => ({ hello: event.name });`},
	"esm": {"index.mjs": `export const handler = async (event) => ({ hello: event.name });`},
	"sdk": {"index.mjs": `import { log } from 'covey'; import { createHash } from 'node:crypto';
		export const handler = async (event) => ({ hello: createHash('sha256').update(event.name).digest('hex') });`},
}

// settled waits until a blank does nothing any more: its processor time stands still.
func settled(b *testing.B, i *instance) {
	b.Helper()
	last := ""
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		<-tick.C
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", i.Pid()))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
		used := fields[12] + " " + fields[13]
		if used == last && used != "0 0" {
			return
		}
		last = used
	}
	b.Fatal("the blank does not come to rest")
}

// BenchmarkStart measures from SETUP to the first answer, and the blank before it.
func BenchmarkStart(b *testing.B) {
	dir, node := install(b), interpreter(b)
	for name, files := range benchFunctions {
		code := filepath.Join(filepath.Dir(dir), name)
		if err := os.CopyFS(code, os.DirFS(folder(b, files))); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			var took []float64
			pss := 0
			for b.Loop() {
				b.StopTimer()
				i := blankIn(b, node, dir, plugins.ConnConfig{})
				settled(b, i)
				pss = memory(b, i)
				b.StartTimer()
				began := time.Now()
				i.become(b, plugins.Setup{Code: code, Memory: 256 << 20})
				if _, _, err := i.invoke(b, plugins.Call{Body: []byte(`{"name":"quail"}`)}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began).Seconds())
				b.StopTimer()
				_ = i.cmd.Process.Kill()
				<-i.done
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(1e3*took[len(took)/2], "ms/start-p50")
			b.ReportMetric(1e3*took[len(took)*9/10], "ms/start-p90")
			b.ReportMetric(float64(pss)/1024, "MiB/blank")
		})
	}
}

// memory returns the proportional set size of a process in KiB.
func memory(b *testing.B, i *instance) int {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", i.Pid()))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	pss := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		if n, err := fmt.Sscanf(s.Text(), "Private_Dirty: %d kB", &pss); err == nil && n == 1 {
			break
		}
	}
	return pss
}

// BenchmarkBlank measures how long a blank takes until its HELLO is there.
func BenchmarkBlank(b *testing.B) {
	dir, node := install(b), interpreter(b)
	code := folder(b, benchFunctions["cjs"])
	for b.Loop() {
		i := blankIn(b, node, dir, plugins.ConnConfig{})
		i.become(b, plugins.Setup{Code: code})
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		if _, err := i.conn.Ready(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
		_ = i.cmd.Process.Kill()
		<-i.done
	}
}

// BenchmarkCalls measures warm calls at two levels of concurrency.
func BenchmarkCalls(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			i := blank(b, plugins.ConnConfig{})
			i.become(b, plugins.Setup{Code: folder(b, benchFunctions["cjs"])})
			call := plugins.Call{Body: []byte(`{"name":"quail","and":["some","more"],"n":17,"text":"a hundred bytes of JSON or so, as is usual"}`)}
			for range 5000 {
				if _, _, err := i.invoke(b, call); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						mine := call
						reply, err := i.conn.Invoke(b.Context(), &mine)
						if err != nil {
							b.Error(errors.Join(err))
							return
						}
						reply.Release()
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkLarge measures 6 MiB in and out.
func BenchmarkLarge(b *testing.B) {
	i := blank(b, plugins.ConnConfig{})
	i.become(b, plugins.Setup{Code: folder(b, map[string]string{"index.js": `exports.handler = async (event) => event;`})})
	call := plugins.Call{Body: make([]byte, 6<<20-100)}
	call.ContentType = "application/octet-stream"
	b.SetBytes(2 * int64(len(call.Body)))
	for b.Loop() {
		if _, body, err := i.invoke(b, call); err != nil || len(body) != len(call.Body) {
			b.Fatal(err)
		}
	}
}
