// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

func TestDoctorOnThisMachine(t *testing.T) {
	n := newTestNode(t, Options{})
	before, err := readKernelUsage(fdinfo)
	require.NoError(t, err)
	response, err := n.client.Doctor(t.Context(), &wire.DoctorRequest{})
	require.NoError(t, err)
	byGadget := map[string]*wire.Finding{}
	for _, f := range response.GetFindings() {
		require.NotEmpty(t, f.GetProblem())
		require.NotContains(t, f.GetProblem()+f.GetRemedy(), "\n")
		if f.GetSeverity() > wire.SeverityFine {
			require.NotEmpty(t, f.GetRemedy(), f.GetProblem())
		}
		byGadget[f.GetGadget()] = f
	}
	for _, name := range n.agent.opts.Gadgets.Names() {
		require.Contains(t, byGadget, name)
	}
	require.EqualValues(t, wire.SeverityFine, byGadget["trace_exec"].GetSeverity(), byGadget["trace_exec"])
	require.Contains(t, byGadget["trace_exec"].GetProblem(), "attached as exec=")
	require.Contains(t, byGadget["trace_exec"].GetProblem(), "failed=")
	// It leaves nothing behind, and is not asked again at once.
	require.Eventually(t, func() bool {
		after, err := readKernelUsage(fdinfo)
		return err == nil && after.programs == before.programs && after.maps == before.maps
	}, 5*time.Second, 10*time.Millisecond)
	begin := time.Now()
	again, err := n.client.Doctor(t.Context(), &wire.DoctorRequest{})
	require.NoError(t, err)
	require.Less(t, time.Since(begin), 50*time.Millisecond)
	require.Len(t, again.GetFindings(), len(response.GetFindings()))
	info, err := n.client.Info(t.Context(), &wire.InfoRequest{})
	require.NoError(t, err)
	require.Empty(t, info.GetStatus().GetUnsupported())
}

func TestDoctorWithoutTypes(t *testing.T) {
	a, _ := withoutTypes(t)
	require.NoError(t, a.Announce(t.Context()))
	response, err := dial(t, a).Doctor(t.Context(), &wire.DoctorRequest{})
	require.NoError(t, err)
	broken := 0
	for _, f := range response.GetFindings() {
		if f.GetSeverity() == wire.SeverityBroken && f.GetGadget() != "" {
			broken++
			require.Contains(t, f.GetProblem(), "no BTF for kernel ")
			require.Contains(t, f.GetRemedy(), "name this kernel's BTF with --btf")
		}
	}
	require.Equal(t, len(a.opts.Gadgets.Names()), broken)
	require.Equal(t, a.opts.Gadgets.Names(), a.unsupported())
	require.Contains(t, response.GetFindings()[0].GetProblem(), "no BTF (tried ")
}

func TestFindingsAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d doctor
		looks := 0
		look := func() []*wire.Finding {
			looks++
			return finding(wire.SeverityFine, "all is\nwell", "")
		}
		require.Nil(t, d.last())
		for range 3 {
			require.Equal(t, "all is well", d.look(look)[0].GetProblem())
		}
		require.Equal(t, 1, looks)
		time.Sleep(doctorLifetime)
		d.look(look)
		require.Equal(t, 2, looks)
		require.Len(t, d.last(), 1)
	})
}

func TestRemedies(t *testing.T) {
	a := New(Options{Gadgets: catalog(t), Types: types})
	refused := fmt.Errorf("loading: %w", os.ErrPermission)
	unsupported := func(group string, err error) error {
		return &tracer.UnsupportedError{Gadget: "trace_exec", Group: group, Attempts: []tracer.Attempt{{Err: err}}}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{refused, "give the agent's container CAP_BPF and CAP_PERFMON"},
		{unsupported("exec", refused), "give the agent's container CAP_BPF and CAP_PERFMON"},
		{unsupported("exec", errors.New("no such hook")), "run a kernel that has helper"},
		{errors.New("reading /sys/kernel/tracing/events/x/id: no such file"), "mount -t tracefs"},
		{errors.New("boom"), "see the agent's log"},
	} {
		require.Contains(t, a.gadgetRemedy("trace_exec", test.err), test.want)
	}
	require.Equal(t, "see the agent's log", a.gadgetRemedy("trace_none", errors.New("boom")))
}
