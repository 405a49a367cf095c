// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	attachTimeout = 30 * time.Second
	// settle is the pause between the attaching and the load.
	settle = 100 * time.Millisecond
	// grace is the pause between the load and the end of the tool.
	grace = 300 * time.Millisecond
)

// rig is a tool that runs: the process that is measured, and its clients if that
// is an agent.
type rig struct {
	tool    *tool
	main    *process
	clients []*process
	// before is the processor time up to the load.
	before cpuTime
}

// assemble starts a tool and returns when it is attached.
func (b *bencher) assemble(ctx context.Context, t *tool, kind, dir string) (*rig, error) {
	r := &rig{tool: t}
	err := b.attach(ctx, r, kind, dir)
	if err == nil {
		time.Sleep(settle)
		r.before, err = cpuOf(r.main.cmd.Process.Pid)
	}
	if err != nil {
		r.kill()
		return nil, err
	}
	return r, nil
}

func (b *bencher) attach(ctx context.Context, r *rig, kind, dir string) (err error) {
	if r.tool.Agent != nil {
		return r.attachAgent(ctx, dir)
	}
	if r.main, err = startProcess(dir, "tool", r.tool.Argv, nil); err != nil {
		return err
	}
	if r.tool.Ours {
		return r.main.await(ctx, attachTimeout, time.Millisecond, r.main.attached)
	}
	probe, err := b.startProbe(kind, dir)
	if err != nil {
		return err
	}
	defer probe.kill()
	return r.main.await(ctx, attachTimeout, 5*time.Millisecond, func() bool {
		text, err := os.ReadFile(r.main.out)
		return err == nil && bytes.Contains(text, []byte(probeComm))
	})
}

// attached says whether our program, by --verbose, has said which hooks it uses.
func (p *process) attached() bool {
	text := p.stderr()
	return strings.HasPrefix(text, "node ") && strings.Contains(text, "\nhook ")
}

func (r *rig) attachAgent(ctx context.Context, dir string) (err error) {
	if r.main, err = startProcess(dir, "agent", r.tool.Agent, nil); err != nil {
		return err
	}
	serving := func() bool { return strings.Contains(r.main.stderr(), "msg=serving") }
	if err := r.main.await(ctx, attachTimeout, 5*time.Millisecond, serving); err != nil {
		return err
	}
	for i := range r.tool.Sessions {
		client, err := startProcess(dir, fmt.Sprintf("client%d", i), r.tool.Argv, nil)
		if err != nil {
			return err
		}
		r.clients = append(r.clients, client)
		if err := client.await(ctx, attachTimeout, 5*time.Millisecond, client.attached); err != nil {
			return err
		}
	}
	return nil
}

// startProbe makes calls by which one sees that a tool is attached. The name is
// long, for tools that write only when 4 KiB have come together.
func (b *bencher) startProbe(kind, dir string) (*process, error) {
	opts := floodOptions{Kind: kind, Comm: probeComm, File: b.probes[kind], Rate: 200, Duration: time.Minute}
	return startProcess(dir, "probe", append([]string{b.self}, opts.args()...), nil)
}

// check says whether everything still runs.
func (r *rig) check() error {
	for _, p := range append(slices.Clone(r.clients), r.main) {
		select {
		case <-p.done:
			return p.complain(fmt.Errorf("it ended before the load did: %w", p.ending()))
		default:
		}
	}
	return nil
}

// dismantle stops the clients, all at the same time, and then the main process.
func (r *rig) dismantle() error {
	var errs []error
	for _, client := range r.clients {
		client.interrupt()
	}
	for _, client := range r.clients {
		errs = append(errs, client.wait())
	}
	r.main.interrupt()
	if err := r.main.wait(); err != nil && r.tool.Ours {
		// How others end is their affair.
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// kill ends what is still there.
func (r *rig) kill() {
	for _, p := range append(slices.Clone(r.clients), r.main) {
		if p != nil {
			p.kill()
		}
	}
}
