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
	t        *testing.T
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

func newTestNode(t *testing.T, opts Options) *testNode {
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

func (n *testNode) mkdir(name string) string {
	n.t.Helper()
	dir := filepath.Join(n.dir, name)
	for at := n.dir; ; {
		if err := os.Mkdir(at, 0o755); err == nil {
			n.t.Cleanup(func() { _ = os.Remove(at) })
		}
		if at == dir {
			return dir
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(dir, at+"/"), "/")
		at = filepath.Join(at, next)
	}
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

func inCgroup(t *testing.T, dir, name string, args ...string) *exec.Cmd {
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
	require.Eventually(p.node.t, func() bool { return os.Remove(p.dir) == nil }, 5*time.Second, time.Millisecond)
}

// seen is a record that a client got, with who is said to be behind it.
type seen struct {
	record     []byte
	by, target *wire.Container
}

// watch is a run as a client sees it.
type watch struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse]
	schema *event.Schema
	known  map[uint32]*wire.Container
	all    []seen
	end    *wire.End
	done   chan error
	arrive chan int
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

func TestEveryExecOfShortLivedContainersIsAttributed(t *testing.T) {
	n := newTestNode(t, Options{})
	w := n.watch(&wire.Start{Gadget: "trace_exec", Params: map[string]string{"comm": "true"}, Selector: &wire.Selector{}})
	const total = 200
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for i := range total / 4 {
				pod := fmt.Sprintf("job-%d-%d", worker, i)
				p := n.container("batch", pod, "main", nil)
				p.run("/bin/true", pod)
				p.remove()
			}
		})
	}
	wait.Wait()
	all := w.stop()
	require.Len(t, all, total)
	for _, s := range all {
		require.Equal(t, "/bin/true "+s.by.GetPod(), w.value(s.record, "args"))
		require.Equal(t, "batch", s.by.GetNamespace())
		require.Equal(t, "main", s.by.GetName())
		require.Equal(t, wire.Container_CONTAINER, s.by.GetKind())
	}
	require.Zero(t, w.end.GetLoss().GetUnresolved()+w.end.GetLoss().GetWithheld())
}

// opens is a script that opens /dev/null n times.
func opens(n int) []string {
	return []string{"-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do : < /dev/null; i=$((i+1)); done", n)}
}

func startOpens(selector *wire.Selector) *wire.Start {
	return &wire.Start{Gadget: "trace_open", Params: map[string]string{"comm": "sh"}, Filter: `path == "/dev/null"`, Selector: selector}
}

// byPod counts records by who is said to have made them.
func byPod(all []seen) map[string]int {
	count := map[string]int{}
	for _, s := range all {
		switch s.by.GetKind() {
		case wire.Container_HOST:
			count["host"]++
		case wire.Container_UNRESOLVED:
			count["unresolved"]++
		default:
			count[s.by.GetNamespace()+"/"+s.by.GetPod()+"/"+s.by.GetName()]++
		}
	}
	return count
}

// TestSelectorsSeeTheirOwn runs all kinds of selectors at once over the same events.
func TestSelectorsSeeTheirOwn(t *testing.T) {
	n := newTestNode(t, Options{})
	cart := map[string]string{"app": "cart"}
	web, log := n.container("shop", "cart-1", "web", cart), n.container("shop", "cart-1", "log", cart)
	db, bank := n.container("shop", "db-1", "db", map[string]string{"app": "db"}), n.container("bank", "cart-1", "web", cart)
	host := n.mkdir("system.slice")
	const w, l, d, b = "shop/cart-1/web", "shop/cart-1/log", "shop/db-1/db", "bank/cart-1/web"
	made := map[string]int{w: 1000, l: 200, d: 300, b: 400, "host": 500}
	tests := map[string]struct {
		selector *wire.Selector
		want     []string
	}{
		"namespace":          {&wire.Selector{Namespaces: []string{"shop"}}, []string{w, l, d}},
		"pod":                {&wire.Selector{Pods: []string{"cart-1"}}, []string{w, l, b}},
		"labels":             {&wire.Selector{Namespaces: []string{"shop"}, Labels: "app=cart"}, []string{w, l}},
		"container":          {&wire.Selector{Namespaces: []string{"shop"}, Labels: "app=cart", Containers: []string{"web"}}, []string{w}},
		"all":                {&wire.Selector{}, []string{w, l, d, b}},
		"all and host":       {&wire.Selector{Host: true}, []string{w, l, d, b, "host"}},
		"host and namespace": {&wire.Selector{Namespaces: []string{"bank"}, Host: true}, []string{b, "host"}},
		"nobody":             {&wire.Selector{Namespaces: []string{"nobody"}}, nil},
	}
	watches := map[string]*watch{}
	for name, test := range tests {
		watches[name] = n.watch(startOpens(test.selector))
	}
	web.run("/bin/sh", opens(made[w])...)
	log.run("/bin/sh", opens(made[l])...)
	db.run("/bin/sh", opens(made[d])...)
	bank.run("/bin/sh", opens(made[b])...)
	out, err := inCgroup(t, host, "/bin/sh", opens(made["host"])...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, test := range tests {
		watch := watches[name]
		want := map[string]int{}
		for _, pod := range test.want {
			want[pod] = made[pod]
		}
		got := byPod(watch.stop())
		// Other processes of this machine's host may open it too.
		if want["host"] > 0 {
			require.GreaterOrEqual(t, got["host"], want["host"])
			got["host"] = want["host"]
		}
		require.Equal(t, want, got, name)
		for _, c := range watch.known {
			if c.GetKind() == wire.Container_CONTAINER {
				require.Contains(t, want, c.GetNamespace()+"/"+c.GetPod()+"/"+c.GetName(), "%s: nothing is told of others", name)
			}
		}
		require.Zero(t, watch.end.GetLoss().GetUnresolved()+watch.end.GetLoss().GetWithheld(), name)
	}
}

// TestWholeMachineIsNamedToo: without a selector nothing is left out.
func TestWholeMachineIsNamedToo(t *testing.T) {
	n := newTestNode(t, Options{})
	web := n.container("shop", "cart-1", "web", nil)
	w := n.watch(startOpens(nil))
	web.run("/bin/sh", opens(100)...)
	out, err := exec.CommandContext(t.Context(), "/bin/sh", opens(50)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	got := byPod(w.stop())
	require.Equal(t, 100, got["shop/cart-1/web"])
	require.GreaterOrEqual(t, got["host"], 50, "this test itself is outside of the node's cgroup, and shown")
}

// TestPodIsTracedWhileItsLabelsMatch, from the moment on when they do.
func TestPodIsTracedWhileItsLabelsMatch(t *testing.T) {
	n := newTestNode(t, Options{})
	web := n.container("shop", "cart-1", "web", map[string]string{"app": "db"})
	w := n.watch(startOpens(&wire.Selector{Namespaces: []string{"shop"}, Labels: "app=cart"}))
	label := func(value string) {
		// What was recorded before is read within 20 ms, and judged by then.
		time.Sleep(100 * time.Millisecond)
		n.registry.SetPods(container.Pod{
			Namespace: "shop", Name: "cart-1", UID: podUID("shop", "cart-1"), Labels: map[string]string{"app": value},
		})
		// The run looks every 20 ms.
		time.Sleep(100 * time.Millisecond)
	}
	web.run("/bin/sh", opens(10)...)
	label("cart")
	web.run("/bin/sh", opens(20)...)
	label("db")
	web.run("/bin/sh", opens(40)...)
	label("cart")
	web.run("/bin/sh", opens(80)...)
	require.Equal(t, map[string]int{"shop/cart-1/web": 100}, byPod(w.stop()))
}

// TestContainerThatNobodyKnows is shown to who may see all, as what it is.
func TestContainerThatNobodyKnows(t *testing.T) {
	n := newTestNode(t, Options{})
	all, shop := n.watch(startOpens(&wire.Selector{})), n.watch(startOpens(&wire.Selector{Namespaces: []string{"shop"}}))
	unknown := n.unknown("shop", "cart-1", "web")
	unknown.run("/bin/sh", opens(10)...)
	time.Sleep(600 * time.Millisecond)
	unknown.run("/bin/sh", opens(10)...)
	require.Equal(t, map[string]int{"unresolved": 20}, byPod(all.stop()))
	require.Empty(t, shop.stop())
	require.EqualValues(t, 20, all.end.GetLoss().GetUnresolved())
	require.Zero(t, all.end.GetLoss().GetWithheld())
	// The path, which is for the client's filter, is only looked at afterwards.
	require.GreaterOrEqual(t, shop.end.GetLoss().GetWithheld(), uint64(20))
	for _, s := range all.all {
		require.Equal(t, unknown.id, s.by.GetId(), "its ids are known")
		require.Equal(t, podUID("shop", "cart-1"), s.by.GetPodUid())
	}
}

// TestSignalsBetweenNamespaces: each sees its own end of it, and no more.
func TestSignalsBetweenNamespaces(t *testing.T) {
	n := newTestNode(t, Options{})
	shop, bank := n.container("shop", "cart-1", "web", nil), n.container("bank", "vault-1", "main", nil)
	start := func(namespaces ...string) *watch {
		return n.watch(&wire.Start{
			Gadget: "trace_signal", Params: map[string]string{"signal": "10"}, Selector: &wire.Selector{Namespaces: namespaces},
		})
	}
	sender, receiver, both, other := start("shop"), start("bank"), start("shop", "bank"), start("other")
	victim := bank.command("/bin/sleep", "60")
	require.NoError(t, victim.Start())
	require.Eventually(t, func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", victim.Process.Pid))
		return err == nil && string(name) == "sleep\n"
	}, 5*time.Second, time.Millisecond)
	shop.run("/bin/sh", "-c", fmt.Sprintf("kill -USR1 %d", victim.Process.Pid))
	_ = victim.Wait()
	pid := fmt.Sprint(victim.Process.Pid)
	for _, test := range []struct {
		watch      *watch
		by, to     string
		comm, name string
		target     string
	}{
		{sender, "cart-1", "", "sh", "", "0"},
		{receiver, "", "vault-1", "", "sleep", pid},
		{both, "cart-1", "vault-1", "sh", "sleep", pid},
	} {
		all := test.watch.stop()
		require.Len(t, all, 1)
		s := all[0]
		require.Equal(t, test.by, s.by.GetPod())
		require.Equal(t, test.to, s.target.GetPod())
		require.Equal(t, "10", test.watch.value(s.record, "signal"))
		require.Equal(t, test.comm, test.watch.value(s.record, "comm"))
		require.Equal(t, test.name, test.watch.value(s.record, "target.comm"))
		require.Equal(t, test.target, test.watch.value(s.record, "target.pid"))
		require.Equal(t, test.by == "", test.watch.value(s.record, "pid") == "0")
	}
	require.Empty(t, other.stop())
}

// TestTablesAndSnapshotsHaveContainers, and respect selectors.
func TestTablesAndSnapshotsHaveContainers(t *testing.T) {
	n := newTestNode(t, Options{})
	shop, bank := n.container("shop", "cart-1", "web", nil), n.container("bank", "vault-1", "main", nil)
	victims := []*exec.Cmd{shop.command("/bin/sleep", "60"), bank.command("/bin/sleep", "60")}
	for _, v := range victims {
		require.NoError(t, v.Start())
		defer func() {
			_ = v.Process.Kill()
			_ = v.Wait()
		}()
	}
	selector := &wire.Selector{Namespaces: []string{"shop"}}
	top := n.watch(&wire.Start{Gadget: "top_syscall", Selector: selector, Interval: int64(100 * time.Millisecond)})
	shop.run("/bin/sh", opens(1000)...)
	bank.run("/bin/sh", opens(1000)...)
	rows := top.stop()
	require.NotEmpty(t, rows)
	require.Equal(t, map[string]int{"shop/cart-1/web": len(rows)}, byPod(rows))

	// Without a row for each container nobody could say whose waits these are.
	runqlat := n.watch(&wire.Start{Gadget: "profile_runqlat", Selector: selector})
	shop.run("/bin/sh", opens(1000)...)
	bank.run("/bin/sh", opens(1000)...)
	rows = runqlat.stop()
	require.NotEmpty(t, rows)
	require.Equal(t, map[string]int{"shop/cart-1/web": len(rows)}, byPod(rows))

	require.Eventually(t, func() bool {
		snapshot := n.watch(&wire.Start{Gadget: "snapshot_process", Selector: selector})
		require.NoError(t, <-snapshot.done)
		got := snapshot.all
		return len(got) == 1 && snapshot.value(got[0].record, "comm") == "sleep" && got[0].by.GetPod() == "cart-1"
	}, 5*time.Second, 10*time.Millisecond)
}
