// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

func TestKernelUsageIsThatOfWhatIsOpen(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"0": "pos:\t0\nflags:\t0100000\nmnt_id:\t24\n",
		"3": "map_type:\t27\nmax_entries:\t4096\nmemlock:\t8192\nmap_id:\t7\nfrozen:\t0\n",
		// The same map once more.
		"4": "map_type:\t27\nmax_entries:\t4096\nmemlock:\t8192\nmap_id:\t7\nfrozen:\t0\n",
		"5": "prog_type:\t17\nprog_jited:\t1\nprog_tag:\ta1b2c3\nmemlock:\t4096\nprog_id:\t7\nrun_time_ns:\t1500000\nrun_cnt:\t3\n",
		"6": "link_type:\traw_tracepoint\nlink_id:\t5\nprog_tag:\ta1b2c3\nprog_id:\t7\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	usage, err := readKernelUsage(dir)
	require.NoError(t, err)
	require.Equal(t, kernelUsage{programs: 1, maps: 1, memory: 12288, runTime: 1500 * time.Microsecond}, usage)
	_, err = readKernelUsage(filepath.Join(dir, "none"))
	require.Error(t, err)
}

func TestResidentMemory(t *testing.T) {
	bytes, err := resident()
	require.NoError(t, err)
	require.Greater(t, bytes, uint64(1<<20))
}

func TestCapabilities(t *testing.T) {
	admin, bpf, perfmon := capabilities(1<<unix.CAP_SYS_ADMIN), capabilities(1<<unix.CAP_BPF), capabilities(1<<unix.CAP_PERFMON)
	for _, test := range []struct {
		has     capabilities
		release string
		missing []string
		text    string
	}{
		{0, "6.1.0-1-amd64", []string{"CAP_BPF", "CAP_PERFMON"}, "none of those that matter"},
		{bpf, "6.1.0", []string{"CAP_PERFMON"}, "CAP_BPF"},
		{bpf | perfmon, "5.8.0", nil, "CAP_BPF, CAP_PERFMON"},
		{bpf | perfmon, "5.4.0", []string{"CAP_SYS_ADMIN"}, "CAP_BPF, CAP_PERFMON"},
		{admin, "4.19", nil, "CAP_SYS_ADMIN"},
		{admin, "a kernel", nil, "CAP_SYS_ADMIN"},
	} {
		require.Equal(t, test.missing, test.has.missing(test.release), "%s on %s", test.has, test.release)
		require.Equal(t, test.text, test.has.String())
	}
	_, err := ownCapabilities()
	require.NoError(t, err)
	parsed, err := parseCapabilities("Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n")
	require.NoError(t, err)
	require.True(t, parsed.has(unix.CAP_BPF))
	require.False(t, parsed.has(unix.CAP_SYS_RESOURCE))
	for _, text := range []string{"", "CapEff:\tx\n"} {
		_, err := parseCapabilities(text)
		require.ErrorContains(t, err, "reading capabilities: ")
	}
	require.False(t, older("", 5, 8))
	require.True(t, older("4.19.0", 5, 8))
	require.False(t, older("6.1", 5, 11))
}

func get(t *testing.T, handler http.Handler, path string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	body, err := io.ReadAll(recorder.Result().Body)
	require.NoError(t, err)
	return recorder.Code, string(body)
}

func TestReadiness(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(a *Agent)
		status int
		body   string
	}{
		{"at first", func(a *Agent) { a.announced.Store(false) }, 503, "still looking for the kernel's types\n"},
		{"ready", func(*Agent) {}, 200, "ok\n"},
		{"no types", func(a *Agent) {
			a.opts.Types.Source = kernel.Source{Kind: kernel.None, Release: "5.10.0", Tried: []string{"a", "b\nc"}}
			a.blind = &kernel.NotFoundError{Release: "5.10.0"}
		}, 200, "ok\ndegraded: kernel 5.10.0: no BTF (tried a; b c)\n"},
		{"no containers", func(a *Agent) { a.blind = errors.New("permission denied:\nR1 is bad") }, 503, "containers can't be followed: permission denied: R1 is bad\n"},
		{"no certificate", func(a *Agent) { a.pair = &pki.KeyPair{} }, 503, "no valid certificate: the controller has not issued one\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := New(Options{Gadgets: catalog(t), Types: types})
			a.announced.Store(true)
			test.change(a)
			status, body := get(t, a.Monitor(), "/readyz")
			require.Equal(t, test.status, status)
			require.Equal(t, test.body, body)
		})
	}
}

func TestHealth(t *testing.T) {
	a := New(Options{Gadgets: catalog(t), Types: types})
	status, body := get(t, a.Monitor(), "/healthz")
	require.Equal(t, 200, status)
	require.Equal(t, "ok\n", body)
	stuck := &program{plan: planOf("trace_x", gadget.Events)}
	stuck.looked.Store(time.Now().Add(-5 * time.Second).UnixNano())
	a.ledger.load(stuck)
	status, body = get(t, a.Monitor(), "/healthz")
	require.Equal(t, 503, status)
	require.Contains(t, body, "a run has not been read for 5")
	// A table is looked at seldom, a run that has ended not at all.
	stuck.pause = time.Minute
	require.NoError(t, a.healthy(time.Now()))
	stuck.pause = 0
	require.Error(t, a.healthy(time.Now()))
	stuck.looked.Store(0)
	require.NoError(t, a.healthy(time.Now()))
}

func TestMetricsAreWellFormed(t *testing.T) {
	a := New(Options{Gadgets: catalog(t), Types: types, Containers: &container.Registry{}})
	a.ledger.ended = map[string]*account{"trace_open": {runs: 2, records: 10, Loss: wire.Loss{Kernel: 3, Queue: 4, Skipped: 1, Unresolved: 5, Withheld: 6, Throttled: 7}}}
	status, text := get(t, a.Monitor(), "/metrics")
	require.Equal(t, 200, status)
	for _, line := range []string{
		`nodegadget_runs_total{gadget="trace_open"} 2`,
		`nodegadget_records_total{gadget="trace_open"} 10`,
		`nodegadget_lost_records_total{gadget="trace_open",stage="kernel"} 3`,
		`nodegadget_lost_records_total{gadget="trace_open",stage="queue"} 4`,
		`nodegadget_skipped_program_runs_total{gadget="trace_open"} 1`,
		`nodegadget_unresolved_records_total{fate="sent",gadget="trace_open"} 5`,
		`nodegadget_unresolved_records_total{fate="withheld",gadget="trace_open"} 6`,
		`nodegadget_btf_info{kernel="6.1.0-test",source="in-kernel"} 1`,
		`nodegadget_throttled_records_total{gadget="trace_open"} 7`,
		"nodegadget_runs 0", "nodegadget_gadgets_loaded 0", "nodegadget_containers 0", "process_resident_memory_bytes ",
	} {
		require.Contains(t, text, line)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestStatusIsPartOfInfo(t *testing.T) {
	a := New(Options{Gadgets: catalog(t), Types: types, Containers: &container.Registry{}})
	a.ledger.ended = map[string]*account{
		"trace_open": {records: 10, Loss: wire.Loss{Kernel: 3, Queue: 4}}, "trace_exec": {records: 1, Loss: wire.Loss{Kernel: 1}},
	}
	a.stale.Store(true)
	info, err := dial(t, a).Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	s := info.GetStatus()
	require.EqualValues(t, 11, s.GetRecords())
	require.EqualValues(t, 4, s.GetLoss().GetKernel())
	require.EqualValues(t, 4, s.GetLoss().GetQueue())
	require.True(t, s.GetStale())
	require.NotZero(t, s.GetResident())
	require.WithinDuration(t, time.Now(), time.Unix(0, s.GetStarted()), time.Minute)
	require.Equal(t, "in-kernel", info.GetNode().GetBtfSource())
	require.Equal(t, "v2", info.GetNode().GetCgroup())

	blind, _ := withoutTypes(t)
	require.NoError(t, blind.Announce(t.Context()))
	blind.blind = errors.New("no permission")
	info, err = dial(t, blind).Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	require.Equal(t, "none", info.GetNode().GetBtfSource())
	require.Equal(t, catalog(t).Names(), info.GetStatus().GetUnsupported(), "none can run")
	require.Equal(t, "containers aren't known: no permission", info.GetStatus().GetRuntime())
	require.NotEmpty(t, info.GetNode().GetDistribution())
}
