// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"

	"nodegadget.dev/pkg/wire"
)

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// apiServer is one that lists no pods, and can't be watched.
func apiServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			http.Error(w, "no watch here", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{},
		})
	}))
	t.Cleanup(s.Close)
	return s
}

// TestEquippedAgent serves as it does in a cluster, but for the controller.
func TestEquippedAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON")
	}
	var log buffer
	monitor := freeAddress(t)
	a, err := Prepare(Setup{
		Node: "worker-1", Containers: true, Heartbeat: true, HTTP: monitor, RuntimeSockets: []string{filepath.Join(t.TempDir(), "none.sock")},
		Kubernetes: &rest.Config{Host: apiServer(t).URL}, FollowPods: true, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	defer a.Close()
	address := "unix://" + filepath.Join(t.TempDir(), "agent.sock")
	listener, err := a.Listen(address, "")
	require.NoError(t, err)
	require.NoError(t, a.Announce(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, listener) }()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := wire.NewAgentClient(conn)

	require.Eventually(t, func() bool { return a.opts.Heartbeat.Missed() == 0 && fetch(monitor, "/readyz") == "200 ok\n" }, 10*time.Second, 10*time.Millisecond, &log)
	require.Equal(t, "200 ok\n", fetch(monitor, "/healthz"))
	require.Contains(t, fetch(monitor, "/metrics"), "nodegadget_heartbeats_total ")
	require.Equal(t, "404 404 page not found\n", fetch(monitor, "/debug/pprof/"))
	info, err := client.Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	require.Contains(t, info.GetStatus().GetRuntime(), "no container runtime at ")
	require.NotZero(t, info.GetStatus().GetKernelMemory())

	doctor, err := client.Doctor(t.Context(), &wire.DoctorRequest{})
	require.NoError(t, err)
	problems := fmt.Sprint(doctor.GetFindings())
	require.Contains(t, problems, "name the runtime's socket with --runtime-socket")

	stop()
	require.NoError(t, <-ended)
	require.True(t, strings.HasPrefix(fetch(monitor, "/healthz"), "error "), "nothing is served any more")
}

// fetch gets a page, with its status before it.
func fetch(address, path string) string {
	response, err := http.Get("http://" + address + path)
	if err != nil {
		return "error " + err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return fmt.Sprint(response.StatusCode, " ", string(body))
}

// TestAgentThatCantFollowContainersSaysSo, and serves what it can.
func TestAgentThatCantFollowContainersSaysSo(t *testing.T) {
	var log buffer
	a, err := Prepare(Setup{Node: "worker-1", Containers: true, CgroupRoot: "/no/such/cgroup", HostRoot: hostWithoutCgroups(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	defer a.Close()
	require.NoError(t, a.Announce(t.Context()))
	require.Error(t, a.blind)
	require.Contains(t, log.String(), "containers can't be followed")
	status, body := get(t, a.Monitor(), "/readyz")
	require.Equal(t, 503, status)
	require.Contains(t, body, "containers can't be followed: ")
	_, err = start(t, dial(t, a), &wire.Start{Gadget: "trace_open", Selector: &wire.Selector{}})
	require.ErrorContains(t, err, "containers aren't known on this node, so that only the whole machine can be traced: ")
	require.NotEmpty(t, a.examineContainers())
}

func hostWithoutCgroups(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc", "os-release"), []byte("ID=debian\nVERSION_ID=12\n"), 0o600))
	return dir
}

func TestBusyMonitorAddressIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	a, err := Prepare(Setup{Node: "worker-1", BTF: t.TempDir(), HTTP: listener.Addr().String()})
	require.NoError(t, err)
	defer a.Close()
	clients, err := Listen("unix://"+filepath.Join(t.TempDir(), "agent.sock"), "")
	require.NoError(t, err)
	require.ErrorContains(t, a.Serve(t.Context(), clients), "listening for metrics and probes: ")
}

// TestTaskThatFailsEndsTheAgent: the kubelet starts it anew.
func TestTaskThatFailsEndsTheAgent(t *testing.T) {
	a := New(Options{Gadgets: catalog(t), Types: types})
	a.tasks = []task{{"containers", func(context.Context) error { return io.ErrUnexpectedEOF }}}
	clients, err := Listen("unix://"+filepath.Join(t.TempDir(), "agent.sock"), "")
	require.NoError(t, err)
	require.EqualError(t, a.Serve(t.Context(), clients), "containers: unexpected EOF")
}
