// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/wire"
)

const hostCgroups = "/sys/fs/cgroup"

// testNode is a cgroup of this machine that stands for a whole node, with an agent
// and a runtime that knows the containers which the test makes.
type testNode struct {
	t        testing.TB
	dir      string
	registry *container.Registry
	agent    *Agent
	client   wire.AgentClient

	mu    sync.Mutex
	infos map[string]container.Info
	asked int
}

// Lookup is part of container.Resolver.
func (n *testNode) Lookup(_ context.Context, id string) (container.Info, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	info, ok := n.infos[id]
	if !ok {
		return info, container.ErrNotFound
	}
	return info, nil
}

// Name is part of container.Resolver.
func (n *testNode) Name() string { return "test" }

// controllerDir is where the registry looks for cgroups, below hostCgroups.
func controllerDir() string {
	for _, name := range []string{"pids", "memory", "unified"} {
		if _, err := os.Stat(filepath.Join(hostCgroups, name, "cgroup.procs")); err == nil {
			return name
		}
	}
	return ""
}

func newTestNode(t testing.TB, opts Options) *testNode {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON, and cgroups are made")
	}
	n := &testNode{t: t, infos: map[string]container.Info{}}
	root := fmt.Sprintf("/nodegadget-agent-%d", os.Getpid())
	n.dir = filepath.Join(hostCgroups, controllerDir(), root)
	n.mkdir("")
	var err error
	n.registry, err = container.Open(container.Options{Cgroups: hostCgroups, Root: root, Resolver: n, ResolveTimeout: 500 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.registry.Run(ctx) }()
	opts.Gadgets, opts.Types, opts.Node, opts.Containers = catalog(t), types, "worker-1", n.registry
	n.agent = New(opts)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ran)
		n.agent.Close()
	})
	n.client = dial(t, n.agent)
	return n
}

// mkdir makes a cgroup and those above it, to be removed in the opposite order.
func (n *testNode) mkdir(name string) string {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	dir := n.dir
	for _, part := range append([]string{""}, strings.Split(name, "/")...) {
		dir = filepath.Join(dir, part)
		made := dir
		if err := os.Mkdir(made, 0o755); err == nil {
			n.t.Cleanup(func() { n.rmdir(made) })
		}
	}
	return dir
}

// rmdir waits for processes: they leave a cgroup a little after they were waited for.
func (n *testNode) rmdir(dir string) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		err := os.Remove(dir)
		return err == nil || errors.Is(err, os.ErrNotExist)
	}, 5*time.Second, time.Millisecond, dir)
}

// testPod is a container that exists as long as something is in its cgroup.
type testPod struct {
	node *testNode
	id   string
	dir  string
}

func hexOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func podUID(namespace, name string) string { return hexOf(namespace + "/" + name)[:32] }

// container tells the runtime of a container, and makes its cgroup.
func (n *testNode) container(namespace, pod, name string, labels map[string]string) *testPod {
	n.mu.Lock()
	n.infos[hexOf(namespace+pod+name)] = container.Info{
		Name: name, Image: "test/" + name, Runtime: "containerd",
		Pod: container.Pod{Namespace: namespace, Name: pod, UID: podUID(namespace, pod), Labels: labels},
	}
	n.mu.Unlock()
	return n.unknown(namespace, pod, name)
}

// unknown makes the cgroup of a container that the runtime may not know.
func (n *testNode) unknown(namespace, pod, name string) *testPod {
	p := &testPod{node: n, id: hexOf(namespace + pod + name)}
	p.dir = n.mkdir(filepath.Join("kubepods", "besteffort", "pod"+podUID(namespace, pod), p.id))
	return p
}

// command is one that runs in the container from its first instruction on, as a
// runtime's would.
func (p *testPod) command(name string, args ...string) *exec.Cmd {
	return inCgroup(p.node.t, p.dir, name, args...)
}

func inCgroup(t testing.TB, dir, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(t.Context(), "/bin/sh",
		append([]string{"-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(dir, "cgroup.procs"), name}, args...)...)
}

func (p *testPod) run(name string, args ...string) {
	p.node.t.Helper()
	out, err := p.command(name, args...).CombinedOutput()
	require.NoError(p.node.t, err, "%s", out)
}

// remove ends the container.
func (p *testPod) remove() {
	p.node.t.Helper()
	p.node.rmdir(p.dir)
}

// seen is a record that a client got, with who is said to be behind it.
type seen struct {
	record     []byte
	by, target *wire.Container
}

// watch is a run as a client sees it.
type watch struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse]
	schema *event.Schema
	known  map[uint32]*wire.Container
	all    []seen
	// notices are lines for the operator; they are complete when done says so.
	notices []string
	end     *wire.End
	done    chan error
	arrive  chan int
}

func (n *testNode) watch(start *wire.Start) *watch {
	n.t.Helper()
	start.Protocol = wire.Current()
	stream, err := n.client.Run(n.t.Context())
	require.NoError(n.t, err)
	require.NoError(n.t, stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: start}}))
	first, err := stream.Recv()
	require.NoError(n.t, err)
	spec, err := first.GetHeader().GetGadget().Spec()
	require.NoError(n.t, err)
	w := &watch{
		t: n.t, stream: stream, known: map[uint32]*wire.Container{0: {Kind: wire.Container_HOST}},
		schema: event.NewSchema(spec.Source, event.Options{Arch: Arch(), BootTime: time.Unix(0, first.GetHeader().GetBootTime())}),
		done:   make(chan error, 1), arrive: make(chan int, 1<<16),
	}
	go func() { w.done <- w.read() }()
	return w
}

func (w *watch) read() error {
	for {
		message, err := w.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := message.GetResponse().(type) {
		case *wire.RunResponse_Containers:
			for _, c := range m.Containers.GetContainers() {
				w.known[c.GetRef()] = c
			}
		case *wire.RunResponse_Batch:
			if err := w.take(m.Batch); err != nil {
				return err
			}
			w.arrive <- int(m.Batch.GetCount())
		case *wire.RunResponse_Notice:
			w.notices = append(w.notices, m.Notice.GetText())
		case *wire.RunResponse_End:
			w.end = m.End
		}
	}
}

func (w *watch) take(b *wire.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	i := 0
	for ref, record := range b.All() {
		s := seen{record: record, by: w.known[ref]}
		if s.by == nil {
			return fmt.Errorf("reference %d is used before it is explained", ref)
		}
		if targets := b.GetTargets(); len(targets) > 0 {
			if s.target = w.known[targets[i]]; s.target == nil {
				return fmt.Errorf("target %d is used before it is explained", targets[i])
			}
		}
		i++
		w.all = append(w.all, s)
	}
	return nil
}

// stop ends the run. Then its books must balance.
func (w *watch) stop() []seen {
	w.t.Helper()
	require.NoError(w.t, w.stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}}))
	require.NoError(w.t, <-w.done)
	require.NotNil(w.t, w.end)
	require.EqualValues(w.t, len(w.all), w.end.GetRecords()-w.end.GetLoss().GetQueue())
	require.Zero(w.t, w.end.GetLoss().GetKernel())
	return w.all
}

// value reads a column; the items of a list are separated by spaces.
func (w *watch) value(record []byte, column string) string {
	w.t.Helper()
	c, err := w.schema.Column(column)
	require.NoError(w.t, err)
	v := c.Value(record)
	switch v.Kind {
	case event.List:
		return string(bytes.Join(slices.Collect(v.Items()), []byte(" ")))
	case event.Text:
		return string(v.Text)
	}
	return fmt.Sprint(v.Int())
}
