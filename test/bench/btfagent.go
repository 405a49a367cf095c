// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
)

// How long a session runs before its agent's memory is read. An agent gives back
// what it needed for the start ten seconds later.
const (
	sessionAge      = 15 * time.Second
	smokeSessionAge = time.Second
)

// kernelBTF is where the kernel has its own types.
const kernelBTF = "/sys/kernel/btf/vmlinux"

// agentCase is an agent that is looked at, with a session or without.
type agentCase struct {
	Name string
	tool *tool
}

// Names that targets refer to.
const (
	agentIdle   = "no session"
	agentBundle = "one `trace exec`, types from a bundle"
	agentKernel = "one `trace exec`, types of the kernel itself"
)

// agentSample is what one agent took.
type agentSample struct {
	Memory memory
	// Anonymous is what of Memory.Now is neither the program's file nor a buffer that
	// the kernel shares, in bytes.
	Anonymous uint64
	// Types is what the client was told of them; empty if there was none.
	Types string
	// Failed says that there is no sample.
	Failed bool
}

// runAgents measures the memory of agents. They run side by side: what they wait
// for is time.
func (b *btfBench) runAgents(ctx context.Context, progress io.Writer) error {
	if why := b.agentsMissing(); why != "" {
		b.res.Skipped = append(b.res.Skipped, "memory of an agent: "+why)
		return nil
	}
	if err := b.hostBundle(ctx); err != nil {
		return err
	}
	b.agents = b.agentCases()
	for i := range b.res.Samples {
		s := &b.res.Samples[i]
		s.Agents = b.watchAgents(ctx, i)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		for j, a := range s.Agents {
			if a.Failed {
				continue
			}
			fmt.Fprintf(progress, "%d/%d  agent, %s: %.1f MB, %.1f MB at its peak\n", i+1, b.opts.Reps,
				b.agents[j].Name, megabytes(a.Memory.Now), megabytes(a.Memory.Peak))
		}
	}
	for _, c := range b.agents {
		text := b.shell(c.tool.Agent)
		if c.tool.Sessions > 0 {
			text += "` and `" + b.shell(c.tool.Argv)
		}
		b.res.Commands = append(b.res.Commands, [2]string{"agent, " + c.Name, text})
	}
	return nil
}

// agentsMissing says why agents can't be measured here; empty if they can.
func (b *btfBench) agentsMissing() string {
	if os.Geteuid() != 0 {
		return "tracing needs root"
	}
	if _, err := os.Stat(kernelBTF); err != nil {
		return fmt.Sprintf("this kernel has no %s, which the bundle is to be made of", kernelBTF)
	}
	for _, name := range []string{"gadget-agent", "kubectl-gadget"} {
		if _, err := os.Stat(b.program(name)); err != nil {
			return fmt.Sprintf("there is no bin/%s: run make build, or give --bin", name)
		}
	}
	return ""
}

// hostBundle makes a bundle of this machine's kernel alone.
func (b *btfBench) hostBundle(ctx context.Context) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("reading the kernel's release: %w", err)
	}
	arch, err := layout.Arch(unix.ByteSliceToString(uts.Machine[:]))
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(kernelBTF)
	if err != nil {
		return fmt.Errorf("reading this kernel's types: %w", err)
	}
	k := layout.Kernel{Distro: "this", Release: "host", Arch: arch, Uname: unix.ByteSliceToString(uts.Release[:])}
	if err := hub.WriteEntry(ctx, b.path("host"), k, raw); err != nil {
		return err
	}
	_, err = b.build(ctx, "host", "host.bundle")
	return err
}

func (b *btfBench) agentCases() []agentCase {
	with := func(name, socket string, sessions int, flags ...string) agentCase {
		address := "unix://" + b.path(socket)
		return agentCase{name, &tool{
			Name: name, Ours: true, Sessions: sessions,
			Agent: append([]string{b.program("gadget-agent"), "serve", "--listen", address}, flags...),
			Argv:  []string{b.program("kubectl-gadget"), "trace", "exec", "--agent", address, "--verbose", "-o", "none"},
		}}
	}
	return []agentCase{
		with(agentIdle, "idle.sock", 0),
		with(agentBundle, "bundle.sock", 1, "--btf", b.path("host.bundle")),
		with(agentKernel, "kernel.sock", 1),
	}
}

// watchAgents starts all, waits, and reads how large they are.
func (b *btfBench) watchAgents(ctx context.Context, round int) []agentSample {
	samples := make([]agentSample, len(b.agents))
	rigs := make([]*rig, len(b.agents))
	for i, c := range b.agents {
		var err error
		if rigs[i], err = b.startAgent(ctx, c, fmt.Sprintf("agent-%d-%d", round, i)); err != nil {
			samples[i].Failed = true
			b.fail(fmt.Errorf("agent, %s: %w", c.Name, err))
			continue
		}
		defer rigs[i].kill()
	}
	select {
	case <-time.After(map[bool]time.Duration{false: sessionAge, true: smokeSessionAge}[b.opts.Smoke]):
	case <-ctx.Done():
		return samples
	}
	for i, r := range rigs {
		if r == nil {
			continue
		}
		if err := samples[i].read(r); err != nil {
			samples[i] = agentSample{Failed: true}
			b.fail(fmt.Errorf("agent, %s: %w", b.agents[i].Name, err))
		}
		samples[i].Types = strings.ReplaceAll(samples[i].Types, b.dir, "$BENCH")
	}
	return samples
}

func (b *btfBench) startAgent(ctx context.Context, c agentCase, dir string) (*rig, error) {
	if err := os.Mkdir(b.path(dir), 0o755); err != nil {
		return nil, err
	}
	r := &rig{tool: c.tool}
	if err := r.attachAgent(ctx, b.path(dir)); err != nil {
		r.kill()
		return nil, err
	}
	return r, nil
}

// read looks at an agent with its session, and ends both.
func (s *agentSample) read(r *rig) (err error) {
	if err := r.check(); err != nil {
		return err
	}
	if s.Memory, err = memoryOf(r.main.cmd.Process.Pid); err != nil {
		return fmt.Errorf("reading memory: %w", err)
	}
	if s.Anonymous, err = anonymousOf(r.main.cmd.Process.Pid); err != nil {
		return fmt.Errorf("reading memory: %w", err)
	}
	for _, client := range r.clients {
		s.Types = typesSaid(client.stderr())
	}
	return r.dismantle()
}

func anonymousOf(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return kilobytes(string(text), "RssAnon")
}

// typesSaid is what a client says of the types, in its line "node NAME: TYPES",
// without what is in brackets: the list of what was checked.
func typesSaid(stderr string) string {
	line, _, _ := strings.Cut(stderr, "\n")
	_, types, _ := strings.Cut(line, ": ")
	types, _, _ = strings.Cut(types, " (")
	return types
}
