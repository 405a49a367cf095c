// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/wire"
)

// fakeRuntime knows containers by their id.
type fakeRuntime map[string]container.Info

// Lookup is part of container.Resolver.
func (f fakeRuntime) Lookup(_ context.Context, id string) (container.Info, error) {
	info, ok := f[id]
	if !ok {
		return info, container.ErrNotFound
	}
	return info, nil
}

// Name is part of container.Resolver.
func (f fakeRuntime) Name() string { return "test" }

// TestSelectorsOnEveryKernel: a selector sees its own containers, the kernel leaves
// the others out, and the books balance.
func TestSelectorsOnEveryKernel(t *testing.T) {
	needRoot(t)
	for name, controller := range map[string]string{"v2": "", "v1 pids": "pids"} {
		t.Run(name, func(t *testing.T) {
			tree := hierarchy(t, controller)
			node, _ := newCgroup(t, tree, "node")
			ids := map[string]string{"shop": fmt.Sprintf("%064x", 1), "bank": fmt.Sprintf("%064x", 2)}
			runtime := fakeRuntime{}
			for namespace, id := range ids {
				runtime[id] = container.Info{Name: "main", Pod: container.Pod{Namespace: namespace, Name: namespace + "-1"}}
			}
			mounted := tree
			if controller != "" {
				mounted = filepath.Dir(tree)
			}
			conn := startContainerAgent(t, container.Options{Cgroups: mounted, Root: "/" + filepath.Base(node), Resolver: runtime})
			start := func(selector *wire.Selector) *selected {
				return startSelected(t, conn, &wire.Start{
					Gadget: "trace_open", Params: map[string]string{"comm": "flood"}, BufferSize: 16 << 20, Selector: selector,
				})
			}
			shop, all := start(&wire.Selector{Namespaces: []string{"shop"}}), start(&wire.Selector{})
			n := scale(5000)
			for _, id := range ids {
				dir := filepath.Join(node, id)
				require.NoError(t, os.Mkdir(dir, 0o755))
				runInCgroup(t, dir, tool(t), "flood", "open", strconv.Itoa(n))
				t.Cleanup(func() { _ = os.Remove(dir) })
			}
			command(t, tool(t), "flood", "open", strconv.Itoa(n))
			shop.requireExactly(map[string]int{"shop/shop-1/main": n})
			all.requireExactly(map[string]int{"shop/shop-1/main": n, "bank/bank-1/main": n})
		})
	}
}

// startContainerAgent serves an agent in this process that follows containers.
func startContainerAgent(t *testing.T, opts container.Options) *client.Conn {
	t.Helper()
	chooser, err := kernel.Open(kernel.Options{Bundle: os.Getenv(bundleEnv)})
	require.NoError(t, err)
	types, err := chooser.Types(t.Context(), container.Object(agent.Arch()))
	require.NoError(t, err)
	opts.Types = types.Spec
	registry, err := container.Open(opts)
	require.NoError(t, err)
	a := agent.New(agent.Options{Gadgets: catalog(t), Chooser: chooser, Types: kernel.Types{Source: types.Source}, Node: "test", Containers: registry})
	t.Cleanup(a.Close)
	follow(t, registry)
	listener := bufconn.Listen(1 << 20)
	server := agent.NewServer(a)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := client.DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// selected is a run of which only is kept who made how many records.
type selected struct {
	t    *testing.T
	run  *client.Run
	by   map[string]int
	end  *wire.End
	done chan error
}

func startSelected(t *testing.T, conn *client.Conn, start *wire.Start) *selected {
	t.Helper()
	run, err := conn.Run(t.Context(), start)
	require.NoError(t, err)
	s := &selected{t: t, run: run, by: map[string]int{}, done: make(chan error, 1)}
	go func() { s.done <- s.read() }()
	return s
}

func (s *selected) read() error {
	names := map[uint32]string{0: "host"}
	for {
		message, err := s.run.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := message.GetResponse().(type) {
		case *wire.RunResponse_Containers:
			for _, c := range m.Containers.GetContainers() {
				names[c.GetRef()] = fmt.Sprintf("%s/%s/%s", c.GetNamespace(), c.GetPod(), c.GetName())
			}
		case *wire.RunResponse_Batch:
			for ref := range m.Batch.All() {
				if names[ref] == "" {
					return fmt.Errorf("reference %d is used before it is explained", ref)
				}
				s.by[names[ref]]++
			}
		case *wire.RunResponse_End:
			s.end = m.End
		}
	}
}

// requireExactly stops the run. What the kernel left out, because it doesn't run a
// program inside itself, may be missing.
func (s *selected) requireExactly(want map[string]int) {
	s.t.Helper()
	s.run.Stop()
	require.NoError(s.t, <-s.done)
	loss := s.end.GetLoss()
	require.Zero(s.t, loss.GetKernel()+loss.GetQueue()+loss.GetUnresolved()+loss.GetWithheld(), "%v", loss)
	require.Len(s.t, s.by, len(want), "%v", s.by)
	for name, n := range want {
		require.InDelta(s.t, n, s.by[name], float64(loss.GetSkipped()), name)
	}
}
