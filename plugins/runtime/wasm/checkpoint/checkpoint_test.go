package checkpoint

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// modules are real ones: from C, with and without names, with a table, a large memory, nothing imported.
func modules(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"../testdata/*.wasm", "../warm/*.wasm", "../../../examples/hash-wasm/*.wasm"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(path)] = b
		}
	}
	return all
}

func insert(t testing.TB, module []byte) []byte {
	t.Helper()
	out, err := Insert(module, "host", "checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestModulesStayValid(t *testing.T) {
	t.Parallel()
	r := wazero.NewRuntime(t.Context())
	defer r.Close(t.Context())
	for name, module := range modules(t) {
		compiled, err := r.CompileModule(t.Context(), insert(t, module))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		imported := compiled.ImportedFunctions()
		if last := imported[len(imported)-1]; last.Name() != "" {
			t.Errorf("%s: the checkpoint has the name %q", name, last.Name())
		}
	}
}

// TestIndicesFollow runs a module that has everything with an index: the export is a function, the table
// holds two, one names the other, and the start function does both.
func TestIndicesFollow(t *testing.T) {
	t.Parallel()
	module := join(
		[]byte(header),
		part(sectionType, 2, 0x60, 0, 0, 0x60, 0, 1, 0x7F),
		part(sectionImport, 1, 1, 'm', 1, 'f', 0, 0),
		part(3, 3, 0, 1, 1), // start, one, two
		part(4, 1, 0x70, 0, 2),
		part(sectionGlobal, 2, 0x7F, 1, 0x41, 0, opEnd, 0x70, 0, opRefFunc, 2, opEnd),
		part(sectionExport, 2, 3, 'r', 'u', 'n', 0, 3, 1, 'g', 3, 0),
		part(sectionStart, 1),
		part(sectionElement, 2, 0, 0x41, 0, opEnd, 1, 2, 5, 0x70, 1, opRefFunc, 3, opEnd),
		part(sectionCode, join([]byte{3},
			// start: loop once; call the import; table[1] = two; g = table[0]() + table[1]()
			function(opLoop, 0x40, opEnd, opCall, 0, 0x41, 1, 0x41, 0, 0x41, 1, opMisc, 12, 1, 0,
				0x41, 0, opIndirect, 1, 0, 0x41, 1, opIndirect, 1, 0, 0x6A, 0x24, 0),
			function(0x41, 1),                         // one: 1
			function(opCall, 2, opCall, 2, 0x6A))...), // two: one() + one()
	)
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	called, checks := 0, 0
	host(t, r, "m", "f", func() { called++ })
	host(t, r, "host", "checkpoint", func() { checks++ })
	m, err := r.Instantiate(ctx, insert(t, module))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.ExportedGlobal("g").Get(); got != 3 || called != 1 {
		t.Errorf("the start function got %d and called the import %d times, want 3 and once", got, called)
	}
	got, err := m.ExportedFunction("run").Call(ctx)
	if err != nil || got[0] != 2 {
		t.Errorf("the exported function returned %v, %v, want 2", got, err)
	}
}

// function is the code of a function without variables.
func function(instructions ...byte) []byte {
	return appendBytes(nil, append(append([]byte{0}, instructions...), opEnd))
}

func part(id byte, body ...byte) []byte { return appendBytes([]byte{id}, body) }

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func host(t testing.TB, r wazero.Runtime, module, name string, f func()) {
	t.Helper()
	_, err := r.NewHostModuleBuilder(module).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(context.Context, []uint64) { f() }), nil, nil).Export(name).Instantiate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

func TestNamesFollow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	host(t, r, "host", "checkpoint", func() { panic(sys.NewExitError(9)) })
	host(t, r, "covey", "fail", func() {})
	compiled, err := r.CompileModule(ctx, insert(t, modules(t)["probe.wasm"]))
	if err != nil {
		t.Fatal(err)
	}
	if f := compiled.ExportedFunctions()["_start"]; f.DebugName() != "probe.wasm._start" && f.DebugName() != "._start" {
		t.Errorf("the exported function _start has the name %q", f.DebugName())
	}
}

func TestBadModulesAreRefused(t *testing.T) {
	t.Parallel()
	good := modules(t)["hash.wasm"]
	for name, module := range map[string][]byte{
		"empty":       nil,
		"a component": []byte("\x00asm\x0d\x00\x01\x00"),
		"cut off":     good[:len(good)/2],
		"no opcode":   join([]byte(header), part(sectionCode, 1, 3, 0, 0x06, opEnd)),
	} {
		if _, err := Insert(module, "host", "checkpoint"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzInsert(f *testing.F) {
	for _, module := range modules(f) {
		f.Add(module)
	}
	r := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigInterpreter())
	f.Fuzz(func(t *testing.T, module []byte) {
		out, err := Insert(module, "host", "checkpoint")
		if !valid(r, module) {
			return // What it becomes is the engine's to judge.
		}
		if err != nil {
			t.Fatalf("a valid module is refused: %v", err)
		}
		after, err := r.CompileModule(context.Background(), out)
		if err != nil {
			t.Fatalf("a valid module becomes invalid: %v", err)
		}
		_ = after.Close(context.Background())
	})
}

// valid tells what wazero says of a module. Its validator panics on some that are not valid.
func valid(r wazero.Runtime, module []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	compiled, err := r.CompileModule(context.Background(), module)
	if err != nil {
		return false
	}
	return compiled.Close(context.Background()) == nil
}
