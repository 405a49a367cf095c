// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"nodegadget.dev/pkg/btf/layout"
)

// usage is what programs took.
type usage struct {
	CPU  cpuTime
	Wall time.Duration
	// Peak is the largest process's most resident memory, in bytes, or the floor of
	// btfResults if that is more.
	Peak uint64
}

// runTool runs a program to its end; its error has the last line of the output.
func runTool(ctx context.Context, argv ...string) (usage, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	err := cmd.Run()
	u := usage{Wall: time.Since(begun)}
	if ctx.Err() != nil {
		return u, errors.New("interrupted")
	}
	if err != nil {
		return u, fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, lastLine(out.String()))
	}
	u.CPU = cpuTime{User: cmd.ProcessState.UserTime(), System: cmd.ProcessState.SystemTime()}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.Peak = uint64(r.Maxrss) << 10
	}
	return u, nil
}

// versions asks the programs.
func (b *btfBench) versions(ctx context.Context) []version {
	list := []version{{"Go", runtime.Version()}, {"btfgen", firstLine(ctx, b.program("btfgen"), "--version")}}
	path, err := findBpftool()
	if err != nil {
		b.res.Skipped = append(b.res.Skipped, err.Error())
	} else {
		b.bpftool = path
		list = append(list, version{"bpftool", lastWord(firstLine(ctx, path, "version"))})
	}
	return append(list, version{"xz", lastWord(firstLine(ctx, "xz", "--version"))})
}

// lastWord is where many programs have their version.
func lastWord(line string) string {
	return line[strings.LastIndexByte(line, ' ')+1:]
}

func findBpftool() (string, error) {
	t, err := peer{program: "bpftool", pack: "bpftool"}.find()
	if err != nil {
		return "", err
	}
	return t.Argv[0], nil
}

// perFile is a tool that tailors one file: its command for one kernel.
type perFile struct {
	name    string
	command func(from, to string) []string
	dir     string
}

func (b *btfBench) btfgenTailor() perFile {
	objects := slices.Concat(b.gadgets, b.witnesses)
	return perFile{"btfgen tailor", func(from, to string) []string {
		return append([]string{b.program("btfgen"), "tailor", "--btf", from, "--out", to}, objects...)
	}, oursDir}
}

func (b *btfBench) bpftoolTailor() perFile {
	objects := slices.Concat(b.gadgets, b.witnesses)
	return perFile{"bpftool", func(from, to string) []string {
		return append([]string{b.bpftool, "gen", "min_core_btf", from, to}, objects...)
	}, theirsDir}
}

// tailor runs a tool on every kernel, as many at a time as there are cores.
func (b *btfBench) tailor(ctx context.Context, tool perFile) (usage, error) {
	var mu sync.Mutex
	var all usage
	begun := time.Now()
	err := parallel(runtime.NumCPU(), len(b.kernels), func(i int) error {
		file := b.kernels[i].String() + layout.RawSuffix
		u, err := runTool(ctx, tool.command(b.path(rawDir, file), b.path(tool.dir, file))...)
		if err != nil {
			return fmt.Errorf("%s: %w", b.kernels[i], err)
		}
		mu.Lock()
		defer mu.Unlock()
		all.CPU.User += u.CPU.User
		all.CPU.System += u.CPU.System
		all.Peak = max(all.Peak, u.Peak)
		return nil
	})
	all.Wall = time.Since(begun)
	return all, err
}

// build makes a bundle of one of our archives.
func (b *btfBench) build(ctx context.Context, archive, out string) (usage, error) {
	return runTool(ctx, b.buildCommand(archive, out)...)
}

func (b *btfBench) buildCommand(archive, out string) []string {
	return append([]string{b.program("btfgen"), "build", "--no-cache", "-q", "--archive", b.path(archive), "--out", b.path(out)}, b.gadgets...)
}

// Files of bundles.
const (
	rawBundle    = "raw.bundle"
	packedBundle = "archive.bundle"
)

// runTools measures tailoring, the tools in turn. The first round of each is
// preceded by one that isn't counted, so that files and programs are in memory.
func (b *btfBench) runTools(ctx context.Context, progress io.Writer) error {
	own, err := memoryOf(os.Getpid())
	if err != nil {
		return fmt.Errorf("reading memory: %w", err)
	}
	b.res.Floor = own.Peak
	for round := -1; round < b.opts.Reps; round++ {
		var s btfSample
		if err := b.runEach(ctx, &s); err != nil {
			return err
		}
		if round < 0 {
			continue
		}
		b.res.Samples[round] = s
		fmt.Fprintf(progress, "%d/%d  CPU of %d kernels: btfgen tailor %.2f s, bpftool %.2f s, btfgen build %.2f s, with xz %.2f s\n", round+1, b.opts.Reps,
			len(b.kernels), s.PerFile.CPU.sum().Seconds(), s.Bpftool.CPU.sum().Seconds(), s.Raw.CPU.sum().Seconds(), s.Packed.CPU.sum().Seconds())
	}
	b.nameCommands()
	return nil
}

func (b *btfBench) runEach(ctx context.Context, s *btfSample) (err error) {
	if s.PerFile, err = b.tailor(ctx, b.btfgenTailor()); err != nil {
		return err
	}
	if b.bpftool != "" {
		if s.Bpftool, err = b.tailor(ctx, b.bpftoolTailor()); err != nil {
			return err
		}
	}
	if s.Raw, err = b.build(ctx, rawDir, rawBundle); err != nil {
		return err
	}
	s.Packed, err = b.build(ctx, archiveDir, packedBundle)
	return err
}

// nameCommands notes what was run, for one file where it was run for each.
func (b *btfBench) nameCommands() {
	objects := []string{b.path(objectDir, "*", "*.o"), b.path(objectDir, "*.o")}
	one := *b
	one.gadgets, one.witnesses = objects[:1], objects[1:]
	add := func(name string, argv []string) {
		b.res.Commands = append(b.res.Commands, [2]string{name, b.shell(argv)})
	}
	ours, theirs := one.btfgenTailor(), one.bpftoolTailor()
	add(ours.name+", for each file", ours.command(b.path(rawDir, "FILE"), b.path(oursDir, "FILE")))
	if b.bpftool != "" {
		argv := theirs.command(b.path(rawDir, "FILE"), b.path(theirsDir, "FILE"))
		add(theirs.name+", for each file", append([]string{"bpftool"}, argv[1:]...))
	}
	add("btfgen build, raw files", one.buildCommand(rawDir, rawBundle))
	add("btfgen build, archive", one.buildCommand(archiveDir, packedBundle))
}

// shell writes a command as one types it. $BENCH is our directory.
func (b *btfBench) shell(argv []string) string {
	text := strings.ReplaceAll(strings.Join(argv, " "), b.dir, "$BENCH")
	return strings.ReplaceAll(text, b.opts.Bin+"/", "bin/")
}
