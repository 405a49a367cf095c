// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"strings"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/version"
	"nodegadget.dev/pkg/wire"
)

// fdinfo tells of what this process has open.
const fdinfo = "/proc/self/fdinfo"

// Info is part of wire.AgentServer.
func (a *Agent) Info(context.Context, *wire.InfoRequest) (*wire.InfoResponse, error) {
	return &wire.InfoResponse{
		Protocol: wire.Current(), AgentVersion: version.Version,
		Node: a.node(a.opts.Types.Source), Status: a.status(),
	}, nil
}

func (a *Agent) node(types kernel.Source) *wire.Node {
	n := &wire.Node{Name: a.opts.Node, Kernel: types.Release, Arch: Arch(), Btf: types.String(), BtfSource: string(types.Kind)}
	if a.opts.Chooser != nil {
		n.Distribution = a.opts.Chooser.Identity().String()
	}
	if a.opts.Containers != nil {
		n.Cgroup = "v1"
		if a.opts.Containers.Hierarchy() == container.V2 {
			n.Cgroup = "v2"
		}
	}
	return n
}

// status is how the agent is doing. What can't be read is left out.
func (a *Agent) status() *wire.Status {
	s := &wire.Status{Started: a.started.UnixNano(), Runs: uint32(a.runs.Load()), Loss: &wire.Loss{}, Unsupported: a.unsupported()}
	for _, account := range a.ledger.accounts() {
		s.Records += account.records
		s.Loss.Add(&account.Loss)
	}
	switch {
	case a.opts.Containers != nil:
		stats := a.opts.Containers.Stats()
		s.Containers, s.Runtime = uint32(stats.Containers), stats.Resolver
		s.Stale = a.stale.Load()
	case a.blind != nil:
		s.Runtime = "containers aren't known: " + brief(a.blind)
	}
	if usage, err := readKernelUsage(fdinfo); err == nil {
		s.KernelMemory = usage.memory
	}
	s.Resident, _ = resident()
	return s
}

// unsupported are the gadgets that can't run here, as far as is known: what the doctor
// found, or else what follows from the types that there are.
func (a *Agent) unsupported() []string {
	if findings := a.doctor.last(); findings != nil {
		return unsupportedBy(findings)
	}
	return a.unable
}

// judge finds the gadgets that can't run with the types that there are.
func (a *Agent) judge() []string {
	inKernel := a.opts.Chooser.InKernel()
	var names []string
	for _, name := range a.opts.Gadgets.Names() {
		object, err := a.opts.Gadgets.Object(name)
		if err != nil || a.untyped != nil || !inKernel && len(object.Spec.NeedsKernelBTF()) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// unsupportedBy are the gadgets that have a finding of the worst kind.
func unsupportedBy(findings []*wire.Finding) []string {
	var names []string
	for _, f := range findings {
		if f.GetGadget() != "" && f.GetSeverity() == wire.SeverityBroken {
			names = append(names, f.GetGadget())
		}
	}
	return names
}

// oneLine makes a text of several lines fit for a log or a table.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
