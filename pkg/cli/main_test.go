// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"nodegadget.dev/pkg/print"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain makes sure that no cluster of whoever runs the tests is met.
func TestMain(m *testing.M) {
	os.Setenv("KUBECONFIG", "/nonexistent/kubeconfig")
	os.Unsetenv("KUBERNETES_SERVICE_HOST")
	// It takes a second to close what its peer has closed already.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// result is what a call of the program leaves.
type result struct {
	status   int
	out, err string
}

// call runs the program. It must end by itself.
func call(tb testing.TB, args ...string) result {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	return callUntil(ctx, ctx, args...)
}

func callUntil(ctx, stop context.Context, args ...string) result {
	var out, err bytes.Buffer
	status := run(ctx, stop, args, Streams{Out: &out, Err: &err})
	return result{status, out.String(), err.String()}
}

// golden compares text with testdata/<name>; -update writes that.
func golden(tb testing.TB, name, got string) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(tb, os.MkdirAll("testdata", 0o755))
		require.NoError(tb, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(tb, err, "run go test -update")
	if diff := cmp.Diff(string(want), got); diff != "" {
		tb.Errorf("%s changed (-golden +now); go test -update accepts it:\n%s", path, diff)
	}
}

// emptyTypes is a BTF file for --btf, so that it doesn't matter what kernel runs
// the tests. They stop before it would be used.
func emptyTypes(tb testing.TB) string {
	tb.Helper()
	raw, err := new(btf.Builder).Marshal(nil, nil)
	require.NoError(tb, err)
	path := filepath.Join(tb.TempDir(), "types.btf")
	require.NoError(tb, os.WriteFile(path, raw, 0o600))
	return path
}

func assertNoTrace(tb testing.TB, r result) {
	tb.Helper()
	for _, word := range []string{"goroutine", "panic", "runtime error", "rpc error"} {
		assert.NotContains(tb, r.out+r.err, word)
	}
}

// TestUsersMistakesGetOneLineThatHelps: status 2 is for what the user can mend
// by asking for something else, 1 for what failed.
func TestUsersMistakesGetOneLineThatHelps(t *testing.T) {
	absent := "unix://" + filepath.Join(t.TempDir(), "none.sock")
	types := emptyTypes(t)
	const fields = "known are: timestamp, cgroup_id, mntns_id, pid, tid, uid, gid, comm, fd, errno, error"
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"frobnicate", 2, `unknown command "frobnicate" for kubectl-gadget, known are: catalog, completion, deploy, doctor, inspect, profile, session, snapshot, status, top, trace, undeploy, version`},
		{"trac", 2, `unknown command "trac" for kubectl-gadget, did you mean: trace?`},
		{"trace opem", 2, `unknown command "opem" for kubectl-gadget trace, did you mean: open?`},
		{"trace opem --local --full-path", 2, `unknown command "opem" for kubectl-gadget trace, did you mean: open?`},
		{"trac open --local", 2, `unknown command "trac" for kubectl-gadget, did you mean: trace?`},
		{"trace nothing", 2, `unknown command "nothing" for kubectl-gadget trace, known are: bind, exec, open, signal`},
		{"--frobnicate", 2, `unknown flag: --frobnicate (see: kubectl-gadget --help)`},
		{"trace --frobnicate", 2, `unknown flag: --frobnicate (see: kubectl-gadget trace --help)`},
		{"trace open --local --frobnicate", 2, `unknown flag: --frobnicate (see: kubectl-gadget trace open --help)`},
		{"trace open --local -x", 2, `unknown shorthand flag: 'x' in -x (see: kubectl-gadget trace open --help)`},
		{"trace open --local stray", 2, `kubectl-gadget trace open takes no arguments, given: "stray"`},
		{"trace open --local -- stray", 2, `kubectl-gadget trace open takes no arguments, given: "stray"`},
		{"catalog stray", 2, `kubectl-gadget catalog takes no arguments, given: "stray"`},

		{"trace open", 2, "reading the kubeconfig: it names no cluster: give --kubeconfig or set KUBECONFIG, or trace this machine with --local"},
		{"trace open --kubeconfig /nonexistent", 2, "reading the kubeconfig: stat /nonexistent: no such file or directory"},
		{"trace open --context moon", 2, "reading the kubeconfig: context \"moon\" does not exist"},
		{"trace open --local --agent " + absent, 2, "--local is for this machine and --agent for that of an agent: give one of them"},
		{"trace open --local --node node1", 2, "--node is for clusters"},
		{"trace open --local -l a=b=c", 2, "--selector: "},
		{"status --local --agent " + absent, 2, "give one of them"},
		{"status", 2, "reading the kubeconfig: it names no cluster"},
		{"status -o xml --agent " + absent, 1, "there is no such socket"},
		{"status stray", 2, "status takes no arguments"},
		{"doctor", 2, "reading the kubeconfig: it names no cluster"},
		{"doctor --frobnicate", 2, "unknown flag: --frobnicate"},
		{"deploy", 2, "reading the kubeconfig: it names no cluster"},
		{"deploy stray", 2, "deploy takes no arguments"},
		{"deploy --timeout 0s", 2, "--timeout is 0s, want more than nothing"},
		{"deploy --dry-run --set nonsense=1", 1, "nonsense"},
		{"undeploy", 2, "reading the kubeconfig: it names no cluster"},
		{"undeploy --image x", 2, "unknown flag: --image"},
		{"version stray", 2, "version takes no arguments"},
		{"trace open --agent " + absent, 1, "there is no such socket; start one with: gadget-agent serve --listen " + absent},
		{"trace open --agent=" + absent, 1, "there is no such socket; start one with: gadget-agent serve"},
		{"trace open --agent tcp://node:80", 2, `agent address "tcp://node:80" is not of the form unix:///path/to/socket`},
		{"trace open --agent", 2, "flag needs an argument: --agent (see: kubectl-gadget trace open --help)"},
		{"trace open --agent " + absent + " --btf x", 2, "--btf goes with --local: an agent has its own"},
		{"trace open --agent " + absent + " --runtime-socket x", 2, "--runtime-socket goes with --local: an agent has its own"},
		{"trace open --local --btf /nonexistent/x.btf", 1, "reading BTF given by --btf: /nonexistent/x.btf: not there (want a BTF file"},
		{"catalog --agent " + absent, 1, "there is no such socket; start one with: gadget-agent serve"},
		{"inspect trace open --agent " + absent, 1, "there is no such socket; start one with: gadget-agent serve"},

		{"trace open --local --fields pid,pidd", 2, `--fields: unknown field "pidd", ` + fields},
		{"trace open --local --filter pidd==1", 2, `--filter: unknown field "pidd", ` + fields},
		{"trace open --local --filter pid==", 2, "--filter: 1:6: Syntax error"},
		{"trace open --local --filter pid", 2, `--filter "pid" gives a int, want true or false`},
		{"trace open --local --filter pid=='x'", 2, "--filter: 1:4: found no matching overload"},
		{"trace open --local --sort pid", 2, "unknown flag: --sort"},
		{"top syscall --local --sort -counts", 2, `--sort: unknown field "counts", known are: pid, syscall,`},
		{"top syscall --local --buffer-size 4Mi", 2, "unknown flag: --buffer-size"},
		{"trace open --local --output xml", 2, `--output: unknown output mode "xml", allowed are: columns, wide, json, yaml, none`},
		{"inspect trace open -o xml", 2, `--output is "xml", want text or json`},

		{"trace open --local --timeout 5", 2, `invalid argument "5" for "--timeout" flag: time: missing unit in duration "5"`},
		{"trace open --local --timeout 5parsecs", 2, `invalid argument "5parsecs" for "--timeout" flag: time: unknown unit "parsecs"`},
		{"trace open --local --timeout -1s", 2, "--timeout, --interval and --max-entries can't be negative"},
		{"top syscall --local --interval -1s", 2, "--timeout, --interval and --max-entries can't be negative"},
		{"top syscall --local --max-entries -1", 2, "--timeout, --interval and --max-entries can't be negative"},
		{"top syscall --local --interval 1ms --btf " + types, 2, "interval of 1ms, want at least 10ms"},
		{"trace open --local --max-events -1", 2, `invalid argument "-1" for "--max-events" flag`},
		{"trace open --local --buffer-size 4MB", 2, `size "4MB" is not a number of bytes, such as 65536, 512Ki or 4Mi`},
		{"trace open --local --buffer-size 0", 2, `size "0" is not a number of bytes`},
		{"trace open --local --buffer-size 1Gi --btf " + types, 2, "buffer size of 1073741824 bytes, want 1 to 268435456"},
		{"trace open --local --alternative exit", 2, "exit must be formatted as key=value"},
		{"trace open --local --alternative exit=magic", 2, `--alternative "exit=magic" is not known, known are: exit=tp_btf, exit=raw_tracepoint, name=fentry, name=kprobe`},

		{"trace open --local --pid x", 2, `--pid is "x", want a number from 0 to 4294967295`},
		{"trace open --local --pid -1", 2, `--pid is "-1", want a number from 0 to 4294967295`},
		{"trace open --local --failed=maybe", 2, `--failed is "maybe", want true or false`},
		{"trace open --local --comm 0123456789abcdef", 2, `--comm takes a text of at most 15 bytes, 16 given`},
		{"trace signal --local --signal 65", 2, `--signal is "65", want a number from 0 to 64`},
		{"profile runqlat --local --by moon", 2, `--by is "moon", want one of machine, `},
		{"trace bind --local --ports 80,http", 2, `--ports is "http", want a number from 0 to 65535`},

		{"inspect", 2, "say which gadget to inspect, for example: inspect trace exec"},
		{"inspect trace opem", 2, `unknown gadget "trace opem", known are: profile runqlat, snapshot process`},
		{"inspect trace open now", 2, `unknown gadget "trace open_now"`},
	} {
		t.Run(test.args, func(t *testing.T) {
			r := call(t, strings.Fields(test.args)...)
			assert.Equal(t, test.status, r.status)
			assert.Empty(t, r.out, "a mistake has no output")
			assert.True(t, strings.HasPrefix(r.err, "kubectl-gadget: "), r.err)
			assert.Contains(t, r.err, test.want)
			if !strings.HasPrefix(test.args, "deploy --dry-run") { // Helm takes several.
				assert.Equal(t, 1, strings.Count(r.err, "\n"), "one line: %s", r.err)
			}
			assertNoTrace(t, r)
		})
	}
}

// TestErrorsAreSafeToShow: what the user typed, or an agent said, may hold escapes.
func TestErrorsAreSafeToShow(t *testing.T) {
	for _, args := range [][]string{
		{"\x1b[2J"},
		{"trace", "\x1b[2J"},
		{"trace", "open", "--\x1b[2J"},
		{"trace", "open", "--local", "--fields", "\x1b[2J"},
		{"trace", "open", "--local", "--filter", "\x1b[2J"},
		{"trace", "open", "--local", "--pid", "\x1b[2J\n"},
		{"trace", "open", "--agent", "unix:///\x1b[2J"},
		{"inspect", "\x1b[2J"},
	} {
		r := call(t, args...)
		require.NotZero(t, r.status, args)
		require.NotContains(t, r.err, "\x1b", args)
		assertNoTrace(t, r)
	}
	require.Equal(t, "a\\x1b\n    b", print.EscapeLines("a\x1b\n\tb"))
}

func TestHelpIsOutputAndNoMistake(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--help"},
		{"-h"},
		{"help"},
		{"help", "trace"},
		{"trace"},
		{"trace", "--help"},
		{"trace", "open", "--help"},
		{"trace", "open", "-h"},
		{"catalog", "--help"},
		{"inspect", "--help"},
		{"completion", "bash"},
		{"--version"},
	} {
		r := call(t, args...)
		require.Zero(t, r.status, args)
		require.NotEmpty(t, r.out, args)
		require.Empty(t, r.err, args)
	}
}

func TestHelpOfAGadgetHasItsParametersAndFields(t *testing.T) {
	r := call(t, "profile", "runqlat", "--help")
	golden(t, "help-profile-runqlat.txt", r.out)
	r = call(t, "trace", "signal", "--help")
	golden(t, "help-trace-signal.txt", r.out)
}

func TestCatalog(t *testing.T) {
	r := call(t, "catalog")
	require.Zero(t, r.status)
	golden(t, "catalog.txt", r.out)
}

func TestInspect(t *testing.T) {
	for name, args := range map[string][]string{
		"inspect-trace-signal.txt":  {"trace", "signal"},
		"inspect-trace-signal.json": {"trace", "signal", "-o", "json"},
		"inspect-top-syscall.txt":   {"top_syscall"},
		"inspect-trace-bind.txt":    {"trace bind", "-o", "text"},
	} {
		t.Run(name, func(t *testing.T) {
			r := call(t, append([]string{"inspect"}, args...)...)
			require.Zero(t, r.status, r.err)
			require.Empty(t, r.err)
			golden(t, name, r.out)
		})
	}
}

func TestCompletion(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string
		not  []string
	}{
		{[]string{""}, []string{"trace\t", "catalog\t", "inspect\t"}, nil},
		{[]string{"trace", ""}, []string{"open\tshow files being opened", "exec\t"}, nil},
		{[]string{"trace", "open", "--f"}, []string{"--fields\t", "--filter\t", "--failed\t", "--full-path\t"}, []string{"--sort", "--pid"}},
		{[]string{"top", "syscall", "--"}, []string{"--sort\t", "--pid\t"}, []string{"--buffer-size"}},
		{[]string{"trace", "open", "--fields", ""}, []string{"pid\n", "path\n", "error\n"}, []string{"--"}},
		{[]string{"top", "syscall", "--sort", ""}, []string{"count\n"}, nil},
		{[]string{"trace", "open", "-o", ""}, []string{"columns\n", "json\n"}, nil},
		{[]string{"trace", "open", "--output", ""}, []string{"wide\n", "yaml\n"}, nil},
		{[]string{"profile", "runqlat", "--unit", ""}, []string{"us\n", "ms\n"}, []string{"--"}},
		{[]string{"inspect", ""}, []string{"trace_open\n", "top_syscall\n"}, nil},
	} {
		r := call(t, append([]string{"__complete"}, test.args...)...)
		require.Zero(t, r.status, test.args)
		for _, want := range test.want {
			require.Contains(t, r.out, want, test.args)
		}
		for _, not := range test.not {
			require.NotContains(t, r.out, not, test.args)
		}
	}
}

func TestDryRunNeedsNoCluster(t *testing.T) {
	r := call(t, "deploy", "--dry-run", "--gadget-namespace", "tracing", "--image", "r.example/nodegadget:v9", "--set", "agent.maxRuns=7")
	require.Zero(t, r.status, r.err)
	require.Empty(t, r.err)
	for _, want := range []string{"kind: Namespace\n", "name: tracing\n", "kind: DaemonSet\n", "r.example/nodegadget:v9", "--max-runs=7"} {
		require.Contains(t, r.out, want)
	}
}
