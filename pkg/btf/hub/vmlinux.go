// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// paholeTime bounds a run of pahole. A kernel takes it about a minute.
const paholeTime = 15 * time.Minute

// spool puts a vmlinux out of a package into a temporary file, because the
// sections of an ELF file are read in their own order.
func (c *collector) spool(ctx context.Context, r io.Reader) (found, error) {
	file, err := os.CreateTemp(c.opts.TempDir, "vmlinux-")
	if err != nil {
		return found{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	n, err := io.Copy(file, io.LimitReader(r, maxVmlinux+1))
	if err != nil {
		return found{}, err
	}
	if n > maxVmlinux {
		return found{}, fmt.Errorf("vmlinux has more than %d bytes", int64(maxVmlinux))
	}
	return c.findELF(ctx, file)
}

// findELF takes the types from a vmlinux's .BTF section, or makes them from its
// debug information.
func (c *collector) findELF(ctx context.Context, file *os.File) (found, error) {
	object, err := elf.NewFile(file)
	if err != nil {
		return found{}, fmt.Errorf("vmlinux: %w", err)
	}
	f := found{source: "section", origin: origin{arch: elfArch(object.Machine)}}
	if f.origin.arch == "" {
		return found{}, fmt.Errorf("vmlinux: built for %s, want x86_64 or arm64", object.Machine)
	}
	switch {
	case present(object, ".BTF"):
		f.raw, err = sectionData(object.Section(".BTF"))
	case present(object, ".debug_info"), present(object, ".zdebug_info"):
		f.source = "DWARF"
		f.raw, err = c.pahole(ctx, file.Name())
	default:
		err = errNoBTF
	}
	if err != nil {
		return found{}, err
	}
	if err := checkBTF(f.raw); err != nil {
		return found{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return found{}, err
	}
	f.origin.uname, err = banner(contextReader{ctx, io.LimitReader(file, maxVmlinux)})
	return f, err
}

// present reports whether a section is there with its content, which debug files
// leave out of all but their own sections.
func present(object *elf.File, name string) bool {
	s := object.Section(name)
	return s != nil && s.Type != elf.SHT_NOBITS && s.Size > 0
}

func sectionData(s *elf.Section) ([]byte, error) {
	if s.Size > DefaultMaxRaw {
		return nil, fmt.Errorf("vmlinux: section %s has %d bytes, want at most %d", s.Name, s.Size, DefaultMaxRaw)
	}
	b, err := readBounded(s.Open(), DefaultMaxRaw)
	if err != nil {
		return nil, fmt.Errorf("vmlinux: section %s: %w", s.Name, err)
	}
	return b, nil
}

// pahole makes BTF from DWARF.
func (c *collector) pahole(ctx context.Context, vmlinux string) ([]byte, error) {
	program, err := exec.LookPath(cmp.Or(c.opts.Pahole, "pahole"))
	if err != nil {
		return nil, fmt.Errorf("vmlinux has debug information but no BTF, and making BTF needs pahole (package pahole or dwarves): %w", err)
	}
	dir, err := os.MkdirTemp(c.opts.TempDir, "pahole-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if vmlinux, err = filepath.Abs(vmlinux); err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "btf")

	ctx, stop := context.WithTimeout(ctx, paholeTime)
	defer stop()
	said := tail{limit: 512}
	cmd := exec.CommandContext(ctx, program, "--btf_encode_detached="+out, vmlinux)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &said, &said, time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("pahole: %w: %q", cmp.Or(ctx.Err(), err), said.b)
	}
	file, err := os.Open(out)
	if err != nil {
		return nil, fmt.Errorf("pahole made no BTF: %w: %q", err, said.b)
	}
	defer file.Close()
	raw, err := readBounded(file, DefaultMaxRaw)
	if err != nil {
		return nil, fmt.Errorf("pahole's BTF: %w", err)
	}
	return raw, nil
}

// tail keeps the last bytes that a program says.
type tail struct {
	b     []byte
	limit int
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b[max(0, len(b)-t.limit):]...)
	t.b = t.b[max(0, len(t.b)-t.limit):]
	return len(b), nil
}
