// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "tool" {
		if err := runTool(os.Args[1:]); err != nil {
			os.Stderr.WriteString("tool: " + err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// needRoot skips tests that load programs where this user can't.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON")
	}
}

// tool is the path of this test binary under the name that makes it a tool.
func tool(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "tool")
	require.NoError(t, os.Symlink(self, link))
	return link
}

func catalog(t *testing.T) *gadget.Catalog {
	t.Helper()
	c, err := gadget.NewCatalog(gadgets.Objects(), agent.Arch())
	require.NoError(t, err)
	return c
}

// startAgent serves the built-in gadgets in this process and connects to it.
func startAgent(t *testing.T) *client.Conn {
	t.Helper()
	a, err := agent.Prepare(agent.Setup{Node: "test", BTFBundle: os.Getenv(bundleEnv)})
	require.NoError(t, err)
	listener := bufconn.Listen(1 << 20)
	server := agent.NewServer(a)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		a.Close()
	})
	conn, err := client.DialWith(func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) })
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// trace is a run whose records are kept.
type trace struct {
	t       *testing.T
	run     *client.Run
	schema  *event.Schema
	records [][]byte
	end     *wire.End
	losses  int
	done    chan error
}

// startTrace returns when the gadget is attached.
func startTrace(t *testing.T, conn *client.Conn, start *wire.Start) (*trace, error) {
	t.Helper()
	run, err := conn.Run(t.Context(), start)
	if err != nil {
		return nil, err
	}
	tr := &trace{t: t, run: run, done: make(chan error, 1)}
	node := run.Node(0)
	tr.schema = event.NewSchema(node.Spec.Source, event.Options{
		Arch: node.Header.GetNode().GetArch(), BootTime: time.Unix(0, node.Header.GetBootTime()),
	})
	go func() { tr.done <- tr.read() }()
	return tr, nil
}

func mustTrace(t *testing.T, start *wire.Start) *trace {
	t.Helper()
	tr, err := startTrace(t, startAgent(t), start)
	require.NoError(t, err)
	return tr
}

func (tr *trace) read() error {
	for {
		message, err := tr.run.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := message.GetResponse().(type) {
		case *wire.RunResponse_Batch:
			for _, record := range m.Batch.All() {
				tr.records = append(tr.records, record)
			}
		case *wire.RunResponse_Loss:
			tr.losses++
		case *wire.RunResponse_End:
			tr.end = m.End
		}
	}
}

// stop ends the run and waits for the last record.
func (tr *trace) stop() {
	tr.t.Helper()
	tr.run.Stop()
	select {
	case err := <-tr.done:
		require.NoError(tr.t, err)
	case <-time.After(60 * time.Second):
		require.Fail(tr.t, "the run did not end within a minute of its stop")
	}
	require.NotNil(tr.t, tr.end, "the run ended without an end message")
}

// requireNoLoss says that every record that was made has arrived.
func (tr *trace) requireNoLoss() {
	tr.t.Helper()
	require.Zero(tr.t, tr.end.GetLoss().GetKernel(), "records lost in the kernel")
	require.Zero(tr.t, tr.end.GetLoss().GetQueue(), "records lost in the agent")
	require.Equal(tr.t, tr.end.GetRecords(), uint64(len(tr.records)))
}

// number reads a column of a record.
func (tr *trace) number(record []byte, column string) int64 {
	tr.t.Helper()
	c, err := tr.schema.Column(column)
	require.NoError(tr.t, err)
	return c.Value(record).Int()
}

// command runs a program to its end and returns its process id.
func command(t *testing.T, name string, args ...string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return cmd.Process.Pid
}

// scale is n on this machine, and less where -short says that it is slow.
func scale(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}
