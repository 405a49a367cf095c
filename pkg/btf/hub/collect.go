// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"nodegadget.dev/pkg/btf/hub/internal/unpack"
	"nodegadget.dev/pkg/btf/layout"
)

// Bounds of what is collected from, in bytes. An image is held in memory, packed
// and unpacked; a vmlinux, which may be 1 GiB with its debug information, never.
const (
	maxImage   = 256 << 20
	maxVmlinux = 4 << 30
)

// CollectOptions say where entries go and what is known of their names.
type CollectOptions struct {
	// Out is the archive's directory. It is made if need be.
	Out string
	// Kernel has the parts of the name that are not to be guessed. With Uname there
	// can be only one input.
	Kernel layout.Kernel
	// Force replaces entries that have other types.
	Force bool
	// Workers is how many inputs are read at once; 0 stands for GOMAXPROCS.
	Workers int
	// TempDir is where a vmlinux in a package is put, which may need 1 GiB; empty
	// for the system's directory.
	TempDir string
	// Pahole is the program that makes BTF from DWARF; empty for the one in PATH.
	Pahole string
	// Progress is called after each input, by one worker at a time; nil for none.
	Progress func(Progress)
}

// Collected is what became of one input.
type Collected struct {
	Input string `json:"input"`
	// Member is the file inside a package, or empty.
	Member string `json:"member,omitempty"`
	// Source is where the types were: "BTF" (a raw file), "section" (.BTF of an ELF
	// file), "image", "DWARF" (made by pahole).
	Source string `json:"source,omitempty"`
	// Kernel is the entry's name, as distro/release/arch/uname.
	Kernel string `json:"kernel,omitempty"`
	// Size of the raw BTF, in bytes.
	Size int `json:"size,omitempty"`
	// Written is false if the archive had the entry already.
	Written bool `json:"written"`
	// Reason says why there is no entry, or is empty.
	Reason string `json:"reason,omitempty"`
}

// CollectReport is what became of the inputs, in their order.
type CollectReport struct {
	Inputs []Collected `json:"inputs"`
}

// Failed returns the inputs that made no entry.
func (r CollectReport) Failed() []Collected {
	return slices.DeleteFunc(slices.Clone(r.Inputs), func(c Collected) bool { return c.Reason == "" })
}

// Collect makes an archive's entries out of kernel packages (.deb, .rpm), kernel
// images (vmlinuz, Image), vmlinux files and raw BTF. The kernel's name is taken
// from the path in the package or from the image, distribution and release from
// the package's metadata, as far as [CollectOptions] don't say.
//
// An input that makes no entry is named in the report, and the others go on. The
// error says that the options can't be used or that ctx ended.
//
// Without a .BTF section, types are made from DWARF by pahole, a program written
// in C: don't collect from debug packages that you don't trust.
func Collect(ctx context.Context, inputs []string, opts CollectOptions) (CollectReport, error) {
	if opts.Workers < 0 {
		return CollectReport{}, errors.New("collecting: the number of workers can't be negative")
	}
	if opts.Kernel.Uname != "" && len(inputs) > 1 {
		return CollectReport{}, fmt.Errorf("collecting: %d inputs can't all be kernel %.100q", len(inputs), opts.Kernel.Uname)
	}
	root, err := openOut(opts.Out)
	if err != nil {
		return CollectReport{}, err
	}
	defer root.Close()
	c := collector{opts: opts, root: root, inputs: inputs}
	for _, input := range inputs {
		c.report.Inputs = append(c.report.Inputs, Collected{Input: printable(input, maxShown), Reason: "not reached"})
	}
	if err := parallel(ctx, cmp.Or(opts.Workers, runtime.GOMAXPROCS(0)), c.feed, c.do); err != nil {
		return c.report, fmt.Errorf("collecting: %w", err)
	}
	return c.report, nil
}

// collector is the state of one call of Collect.
type collector struct {
	opts   CollectOptions
	root   *os.Root
	inputs []string

	mu     sync.Mutex
	report CollectReport
	done   int
}

// feed gives out the inputs' indices.
func (c *collector) feed(_ context.Context, emit func(int) bool) error {
	for i := range c.inputs {
		if !emit(i) {
			break
		}
	}
	return nil
}

// do is what a worker does with an input.
func (c *collector) do(ctx context.Context, i int) error {
	result := c.one(ctx, c.inputs[i])
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Inputs[i] = result
	c.done++
	if c.opts.Progress != nil {
		c.opts.Progress(Progress{Done: c.done, Total: len(c.inputs)})
	}
	return nil
}

// found are a kernel's types and what is known about the kernel.
type found struct {
	raw    []byte
	source string
	member string
	origin origin
}

// one makes the entry of one input.
func (c *collector) one(ctx context.Context, input string) Collected {
	result := Collected{Input: printable(input, maxShown)}
	f, err := c.find(ctx, input)
	if err == nil {
		result.Member, result.Source, result.Size = printable(f.member, maxShown), f.source, len(f.raw)
		var k layout.Kernel
		if k, err = f.origin.kernel(c.opts.Kernel); err == nil {
			result.Kernel = k.String()
			result.Written, err = writeEntry(ctx, c.root, k, f.raw, c.opts.Force)
		}
	}
	if err != nil {
		result.Reason = printable(err.Error(), 4*maxShown)
	}
	return result
}

// find tells by an input's first bytes what it is.
func (c *collector) find(ctx context.Context, input string) (found, error) {
	file, err := os.OpenFile(input, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return found{}, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return found{}, err
	} else if !info.Mode().IsRegular() {
		return found{}, errors.New("not a file: want a kernel package, a kernel image, vmlinux or raw BTF")
	}
	r := bufio.NewReaderSize(contextReader{ctx, file}, 64<<10)
	head, err := r.Peek(8)
	if err != nil {
		return found{}, fmt.Errorf("not a kernel: %w", err)
	}
	switch {
	case strings.HasPrefix(string(head), unpack.ArMagic):
		return c.findDeb(ctx, r)
	case strings.HasPrefix(string(head), unpack.RPMMagic):
		return c.findRPM(ctx, r)
	case isELF(head):
		return c.findELF(ctx, file)
	}
	b, err := readBounded(r, maxImage)
	if err != nil {
		return found{}, err
	}
	if _, err := parseBTFHeader(b); err == nil {
		return found{raw: b, source: "BTF", origin: originOfPath(input)}, nil
	}
	return findImage(b)
}

// originOfPath takes the kernel's name from the path of a raw file: all of it if
// it lies in an archive, else the kernel's release from <uname>.btf.
func originOfPath(input string) origin {
	if k, err := layout.Parse(filepath.ToSlash(input)); err == nil {
		return origin{distro: k.Distro, release: k.Release, arch: k.Arch, uname: k.Uname}
	}
	uname, ok := strings.CutSuffix(filepath.Base(input), layout.RawSuffix)
	if !ok {
		return origin{}
	}
	return origin{uname: uname}
}

// readBounded reads all of r, which must not have more than limit bytes.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return b, nil
}
