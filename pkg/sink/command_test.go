// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/cli"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// replay is an agent that sends what a tape has.
type replay struct {
	wire.UnimplementedAgentServer
	header *wire.Header
	tape   *tape.Tape
}

func (r *replay) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: r.header}}); err != nil {
		return err
	}
	for reader := r.tape.Read(tape.From{}); ; {
		m, err := reader.Next(stream.Context())
		if err != nil {
			return stream.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{}}})
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// builtIn is a gadget as it is shipped.
func builtIn(t *testing.T, name string) *gadget.Spec {
	t.Helper()
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "x86_64")
	require.NoError(t, err)
	object, err := catalog.Object(name)
	require.NoError(t, err)
	return &object.Spec
}

// TestLinesAreThoseOfTheCommand: a file has what kubectl gadget -o json prints, byte for byte.
func TestLinesAreThoseOfTheCommand(t *testing.T) {
	spec := builtIn(t, "trace_exec")
	agent := &replay{header: headerOf(spec), tape: tape.New(tape.Options{})}
	for i := range 40 {
		record := make([]byte, int(spec.Source.Size)+50)
		for j := range record {
			record[j] = byte(i * j * 7)
		}
		agent.tape.Append(batchOf(uint32(i%4)*7%21, record), []*wire.Container{cart(), {Ref: 14, Kind: wire.Container_UNRESOLVED, Id: "beef"}})
	}
	agent.tape.Close()
	dir := t.TempDir()
	f := newFile(dir)
	require.NoError(t, f.Run(t.Context(), agent.header, agent.tape.Read(tape.From{})))
	require.Equal(t, sink.State{Written: 40}, f.State())

	listener, err := net.Listen("unix", filepath.Join(dir, "agent.sock"))
	require.NoError(t, err)
	server := grpc.NewServer()
	wire.RegisterAgentServer(server, agent)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	printed, err := os.Create(filepath.Join(dir, "printed"))
	require.NoError(t, err)
	out := os.Stdout
	os.Stdout = printed
	t.Cleanup(func() { os.Stdout = out })
	status := cli.Main([]string{"trace", "exec", "--agent", "unix://" + listener.Addr().String(), "-o", "json"})
	os.Stdout = out
	require.Zero(t, status)
	require.NotEmpty(t, read(t, printed.Name()))
	require.Equal(t, string(read(t, printed.Name())), string(read(t, shopFile(dir))))
}

// TestMetricsOfBuiltInGadgets: what is added up of those that there are.
func TestMetricsOfBuiltInGadgets(t *testing.T) {
	for name, want := range map[string][]string{
		"trace_exec": {"nodegadget_session_events_total"},
		"top_syscall": {
			"nodegadget_session_top_syscall_count_total", "nodegadget_session_top_syscall_errors_total",
			"nodegadget_session_top_syscall_time_seconds_total",
		},
		"profile_runqlat": {"nodegadget_session_profile_runqlat_slots_seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := builtIn(t, name)
			m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession})
			counted(t, m, spec, batchOf(7, make([]byte, spec.Source.Size)))
			var got []string
			for _, f := range gathered(t, m) {
				if f.GetName() != "nodegadget_session_overflow_records_total" {
					got = append(got, f.GetName())
				}
			}
			require.Equal(t, want, got)
		})
	}
}
