// SPDX-License-Identifier: Apache-2.0

package live

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
	"nodegadget.dev/test/scenario"
)

// TestScenarios runs every scenario of every gadget: as the kernel has it by
// default, through the perf buffer, and with each alternative forced that the
// default did not attach.
func TestScenarios(t *testing.T) {
	needRoot(t)
	conn := startAgent(t)
	c := catalog(t)
	for _, name := range c.Names() {
		object, err := c.Object(name)
		require.NoError(t, err)
		scenarios, err := scenario.Load(gadgets.Scenarios(), name)
		require.NoError(t, err)
		// What the default has attached needs not be forced as well.
		done := map[string]bool{}
		for _, v := range variants(&object.Spec) {
			if done[v.name] {
				continue
			}
			t.Run(name+"/"+v.name, func(t *testing.T) {
				if v.kernelTypes && !showsTypes() {
					requireRefused(t, conn, &object.Spec, v)
					return
				}
				for _, together := range groupByParams(scenarios) {
					for _, choice := range runScenarios(t, conn, &object.Spec, together, v) {
						done[choice.GetGroup()+"="+choice.GetAlternative()] = true
					}
				}
			})
		}
	}
}

// groupByParams puts scenarios together that one run of the gadget can serve:
// loading takes longer than tracing, above all in a virtual machine.
func groupByParams(scenarios []scenario.Scenario) [][]scenario.Scenario {
	var groups [][]scenario.Scenario
	for _, s := range scenarios {
		i := slices.IndexFunc(groups, func(g []scenario.Scenario) bool { return maps.Equal(g[0].Params, s.Params) })
		if i < 0 {
			groups = append(groups, []scenario.Scenario{s})
			continue
		}
		groups[i] = append(groups[i], s)
	}
	return groups
}

// variant is a way to run a gadget.
type variant struct {
	name         string
	perf         bool
	alternatives map[string]string
	// hooks are those that the kernel must have for a forced alternative.
	hooks string
	// when is the parameter without which a forced alternative isn't loaded.
	when string
	// kernelTypes says that it needs a kernel that shows its own types.
	kernelTypes bool
}

func variants(spec *gadget.Spec) []variant {
	kernelTypes := len(spec.NeedsKernelBTF()) > 0
	all := []variant{{name: "default", kernelTypes: kernelTypes}}
	if spec.Source.Kind == gadget.Events {
		all = append(all, variant{name: "perf_buffer", perf: true, kernelTypes: kernelTypes})
	}
	for _, group := range spec.Groups {
		if len(group.Alternatives) == 1 {
			continue
		}
		for _, a := range group.Alternatives {
			all = append(all, variant{
				name: group.Name + "=" + a.Name, alternatives: map[string]string{group.Name: a.Name},
				hooks: hooks(a), when: a.Programs[0].When, kernelTypes: kernelTypes || needsKernelTypes(a),
			})
		}
	}
	return all
}

// needsKernelTypes tells whether any program of an alternative is of a kind that
// a kernel without types of its own refuses.
func needsKernelTypes(a gadget.Alternative) bool {
	return slices.ContainsFunc(a.Programs, func(p gadget.Program) bool {
		return slices.Contains([]string{"tp_btf", "fentry", "fexit", "iter", "lsm"}, p.Hook())
	})
}

func hooks(a gadget.Alternative) string {
	seen := map[string]bool{}
	var names []string
	for _, p := range a.Programs {
		if hook := strings.Replace(p.Hook(), "kretprobe", "kprobe", 1); !seen[hook] {
			seen[hook] = true
			names = append(names, hook)
		}
	}
	return strings.Join(names, ", ")
}

// runScenarios runs the scripts of scenarios with the same parameters, and then
// checks the expectations of each. It returns what was attached.
func runScenarios(t *testing.T, conn *client.Conn, spec *gadget.Spec, scenarios []scenario.Scenario, v variant) []*wire.Choice {
	if v.when != "" && scenarios[0].Params[v.when] != "true" {
		return nil // the forced programs aren't wanted in this run
	}
	tr, values := traceScripts(t, conn, spec, scenarios, v)
	for attempt := 1; attempt < 3 && tr.end.GetLoss().GetSkipped() > 0; attempt++ {
		// Since Linux 7 a program can be preempted, and the kernel then leaves out
		// its runs for other tasks of that CPU: what the scenario made may be among them.
		t.Logf("once more: the kernel left out %d program runs", tr.end.GetLoss().GetSkipped())
		tr, values = traceScripts(t, conn, spec, scenarios, v)
	}
	tr.requireNoLoss()
	for i, s := range scenarios {
		t.Run(strings.ReplaceAll(s.Name, " ", "_"), func(t *testing.T) {
			if err := s.Check(tr.schema, tr.records, values[i]); err != nil {
				t.Errorf("%v\nhooks: %v\nleft out: %d\nrecords:\n%s",
					err, tr.run.Node(0).Header.GetChoices(), tr.end.GetLoss().GetSkipped(), dump(tr))
			}
		})
	}
	return tr.run.Node(0).Header.GetChoices()
}

// requireRefused says that the error tells what the kernel lacks.
func requireRefused(t *testing.T, conn *client.Conn, spec *gadget.Spec, v variant) {
	t.Helper()
	start := &wire.Start{Gadget: spec.Name, PerfBuffer: v.perf, Alternatives: v.alternatives}
	if v.when != "" {
		start.Params = map[string]string{v.when: "true"}
	}
	_, err := startTrace(t, conn, start)
	require.ErrorContains(t, err, "can't run on this kernel")
	require.ErrorContains(t, err, "needs a kernel that carries its own BTF (CONFIG_DEBUG_INFO_BTF)")
}

// traceScripts runs the gadget while it runs the scripts.
func traceScripts(t *testing.T, conn *client.Conn, spec *gadget.Spec, scenarios []scenario.Scenario, v variant) (*trace, []map[string]string) {
	t.Helper()
	start := &wire.Start{
		Gadget: spec.Name, Params: scenarios[0].Params, Verbose: true, PerfBuffer: v.perf, Alternatives: v.alternatives,
	}
	switch spec.Source.Kind {
	case gadget.Table:
		start.Interval = int64(time.Hour) // only the end reads the table
	case gadget.Snapshot:
		start.Interval = int64(100 * time.Millisecond)
	}
	tr, err := startTrace(t, conn, start)
	if err != nil && v.alternatives != nil && strings.Contains(err.Error(), "can't run on this kernel") {
		t.Skipf("needs %s: %v", v.hooks, err)
	}
	require.NoError(t, err)
	values := make([]map[string]string, len(scenarios))
	for i, s := range scenarios {
		values[i] = runScript(t, s)
	}
	tr.stop()
	return tr, values
}

// runScript runs a scenario's script in a fresh directory, and returns what its
// expectations may refer to.
func runScript(t *testing.T, s scenario.Scenario) map[string]string {
	t.Helper()
	dir := t.TempDir()
	values := map[string]string{"DIR": dir, "TOOL": tool(t)}
	script := filepath.Join(dir, ".script")
	require.NoError(t, os.WriteFile(script, []byte(scenario.Expand(s.Script, values)), 0o600))
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-e", script)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "script of %q: %s", s.Name, out)
	values["PID"] = strconv.Itoa(cmd.Process.Pid)
	return values
}

// dump shows some of the records of a failed scenario.
func dump(tr *trace) string {
	var b strings.Builder
	printer, err := print.New(&b, tr.schema, print.Options{Mode: print.JSON})
	require.NoError(tr.t, err)
	for i, record := range tr.records {
		if i == 60 {
			break
		}
		printer.Record(&print.Origin{}, record)
	}
	require.NoError(tr.t, printer.Flush())
	return b.String()
}
