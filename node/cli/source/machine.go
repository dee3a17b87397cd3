package source

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"path"
	"strings"

	"github.com/covey-dev/covey/internal/archive"
)

// machine finds out what kind of machine the packed files are for. Code is bound
// to one if all that is native in it is of that one: a program, a library, an
// extension of Python or Node. Scripts alone, or a package that brings native
// code for several, go everywhere.
func (t *target) machine() (os, arch string, err error) {
	native := t.matching(func(f archive.File) bool {
		ext := path.Ext(f.Name)
		return f.Link == "" && (f.Exec || f.Name == bootstrap || ext == ".so" || ext == ".node" || strings.Contains(path.Base(f.Name), ".so."))
	})
	for _, name := range native {
		m, ok := t.elf(name)
		if !ok {
			continue
		}
		found, known := machine(m)
		if !known {
			return "", "", inputf("%s is built for %v, which no node runs on", path.Join(t.path, name), m)
		}
		if arch != "" && arch != found {
			return "", "", nil
		}
		os, arch = "linux", found
	}
	return os, arch, nil
}

// isELF reports whether a file is native code for Linux.
func (t *target) isELF(name string) bool {
	_, ok := t.elf(name)
	return ok
}

// elf reads the machine from the head of a file.
func (t *target) elf(name string) (elf.Machine, bool) {
	f, err := t.files.Open(path.Clean(name))
	if err != nil {
		return 0, false
	}
	defer f.Close() // read only: nothing can be lost
	var head [20]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:4]) != elf.ELFMAG {
		return 0, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return elf.Machine(order.Uint16(head[18:])), true
}

// machine is an architecture in Go's words.
func machine(m elf.Machine) (string, bool) {
	switch m {
	case elf.EM_X86_64:
		return "amd64", true
	case elf.EM_AARCH64:
		return "arm64", true
	case elf.EM_386:
		return "386", true
	case elf.EM_ARM:
		return "arm", true
	case elf.EM_RISCV:
		return "riscv64", true
	case elf.EM_PPC64:
		return "ppc64le", true
	case elf.EM_S390:
		return "s390x", true
	default:
		return "", false
	}
}

// inspect checks that a program can be a Go function, and finds out its machine.
func inspect(path string) (Artifact, error) {
	f, err := elf.Open(path)
	if err != nil {
		return Artifact{}, inputf("%s is neither a Go package nor a Linux binary: %w", path, err)
	}
	defer f.Close() // read only: nothing can be lost
	arch, ok := machine(f.Machine)
	if !ok {
		return Artifact{}, inputf("%s is built for %v, which no node runs on", path, f.Machine)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return Artifact{}, inputf("%s is not a program", path)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return Artifact{}, inputf("%s needs a dynamic loader, which functions of the runtime go do not have: build it with CGO_ENABLED=0", path)
		}
	}
	return Artifact{Path: path, OS: "linux", Arch: arch}, nil
}
