// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"nodegadget.dev/test/kernels/internal/task"
)

// runOptions are the flags of the run command.
type runOptions struct {
	storeOptions
	Jobs     int
	Timeout  time.Duration // of one guest
	LogDir   string        // empty: a new one, kept only if a kernel failed
	Binaries map[arch]string
	Task     task.Task
	Add      []addition
}

// errKernelsFailed was reported kernel by kernel already.
var errKernelsFailed = errors.New("not every kernel passed")

// result is what came of one kernel.
type result struct {
	Kernel     kernel
	Transcript transcript
	Took       time.Duration
	Log        string
	Err        error // nil if it passed
}

// runMatrix fetches what is missing, boots every selected kernel and reports.
func runMatrix(ctx context.Context, opts runOptions, stdout, stderr io.Writer) error {
	m, kernels, err := opts.load()
	if err != nil {
		return err
	}
	if err := opts.check(ctx, kernels); err != nil {
		return err
	}
	s := opts.open(stderr)
	vms, err := fetchAll(ctx, s, m, kernels)
	if err != nil {
		return err
	}

	tmp, err := os.MkdirTemp("", "nodegadget-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	initrds, err := opts.buildInitramfs(ctx, s, m, kernels, tmp)
	if err != nil {
		return err
	}
	for i, k := range kernels {
		vms[i].Initrd = initrds[k.Arch]
	}
	return opts.bootAndLog(ctx, kernels, vms, stdout)
}

// bootAndLog sees to the log directory.
func (o runOptions) bootAndLog(ctx context.Context, kernels []kernel, vms []vm, stdout io.Writer) error {
	if o.LogDir != "" {
		if err := os.MkdirAll(o.LogDir, 0o755); err != nil {
			return err
		}
		return o.bootAll(ctx, kernels, vms, stdout)
	}

	var err error
	if o.LogDir, err = os.MkdirTemp("", "nodegadget-kernels-log-"); err != nil {
		return err
	}
	if err := o.bootAll(ctx, kernels, vms, stdout); err != nil {
		return err
	}
	return os.RemoveAll(o.LogDir)
}

// check finds mistakes before anything slow is begun.
func (o runOptions) check(ctx context.Context, kernels []kernel) error {
	for _, k := range kernels {
		binary := o.Binaries[k.Arch]
		if binary == "" {
			return fmt.Errorf("kernel %s: no --bin %s=PATH given", k.Name, k.Arch)
		}
		if err := checkBinary(binary, k.Arch); err != nil {
			return err
		}
		m, err := k.Arch.machine()
		if err != nil {
			return err
		}
		if _, err := command(ctx, m.pkg, m.qemu); err != nil {
			return err
		}
	}
	for _, a := range o.Add {
		if _, err := os.Stat(a.Host); err != nil {
			return fmt.Errorf("adding to the guest: %w", err)
		}
	}
	return nil
}

// fetchAll makes every kernel ready to boot. One at a time: apt is faster than
// the network, and errors come in order.
func fetchAll(ctx context.Context, s *store, m *matrix, kernels []kernel) ([]vm, error) {
	var vms []vm
	for _, k := range kernels {
		image, err := s.kernel(ctx, k)
		if err != nil {
			return nil, err
		}
		vms = append(vms, vm{
			Name: k.Name, Arch: k.Arch, Kernel: image.Boot, Cmdline: k.Cmdline,
			Memory: k.Memory, CPUs: m.CPUs, BTF: k.BTF,
		})
	}
	return vms, nil
}

// buildInitramfs builds one root file system for each architecture.
func (o runOptions) buildInitramfs(ctx context.Context, s *store, m *matrix, kernels []kernel, dir string) (map[arch]string, error) {
	out := make(map[arch]string)
	for _, k := range kernels {
		if out[k.Arch] != "" {
			continue
		}
		busybox, err := s.busybox(ctx, k.Arch, m.Busybox)
		if err != nil {
			return nil, err
		}
		initPath := filepath.Join(dir, "init-"+string(k.Arch))
		if err := buildInit(ctx, k.Arch, initPath); err != nil {
			return nil, err
		}
		out[k.Arch] = filepath.Join(dir, "initramfs-"+string(k.Arch))
		fs := initramfs{Init: initPath, Busybox: busybox, Test: o.Binaries[k.Arch], Task: o.Task, Add: o.Add}
		if err := fs.writeFile(out[k.Arch]); err != nil {
			return nil, fmt.Errorf("building initramfs for %s: %w", k.Arch, err)
		}
	}
	return out, nil
}

// bootAll runs the guests, some at a time, and reports each as soon as all
// before it were.
func (o runOptions) bootAll(ctx context.Context, kernels []kernel, vms []vm, stdout io.Writer) error {
	results := make([]chan result, len(kernels))
	slots := make(chan struct{}, o.Jobs)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, k := range kernels {
		results[i] = make(chan result, 1)
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] <- o.boot(ctx, k, vms[i])
		})
	}

	failed := 0
	for _, r := range results {
		res := <-r
		if res.Err != nil {
			failed++
		}
		res.print(stdout)
	}
	fmt.Fprintf(stdout, "%d passed, %d failed\n", len(kernels)-failed, failed)
	if failed > 0 {
		return errKernelsFailed
	}
	return nil
}

// boot runs one guest and reads its console.
func (o runOptions) boot(ctx context.Context, k kernel, v vm) result {
	r := result{Kernel: k, Log: filepath.Join(o.LogDir, k.Name+".log")}
	if ctx.Err() != nil {
		r.Err = errors.New("interrupted")
		return r
	}
	console, err := os.Create(r.Log)
	if err != nil {
		r.Err = err
		return r
	}
	defer console.Close()

	limit, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	start := time.Now()
	runErr := v.run(limit, console)
	r.Took = time.Since(start)

	if _, err := console.Seek(0, io.SeekStart); err != nil {
		r.Err = err
		return r
	}
	if r.Transcript, err = parseSerial(console); err != nil {
		r.Err = err
		return r
	}
	switch {
	case ctx.Err() != nil:
		r.Err = errors.New("interrupted")
	case limit.Err() != nil:
		r.Err = fmt.Errorf("timed out after %s", o.Timeout)
	case runErr != nil:
		r.Err = runErr
	default:
		r.Err = r.Transcript.verdict()
	}
	return r
}
