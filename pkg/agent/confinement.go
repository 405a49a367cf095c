// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"strings"

	"nodegadget.dev/pkg/pidns"
	"nodegadget.dev/pkg/wire"
)

// confinement is what the kernel's iterators over tasks can't show an agent, because it
// isn't in the PID namespace of the processes that it is asked for. The zero value is none.
type confinement struct{ problem, remedy string }

// ownConfinement is that of this process. An agent that has a controller is in a pod.
func ownConfinement(inPod bool) confinement {
	first, err := pidns.First()
	if err != nil {
		// There are no PID namespaces on this kernel, or nobody can tell.
		return confinement{}
	}
	return confinementOf(first, inPod, os.Getpid())
}

// confinementOf is that of a process with such an id in its PID namespace. In a pod the
// agent is the first process of a namespace of its own. If it isn't, but the namespace is
// not the machine's, then the node itself is a container, all of whose processes are seen.
func confinementOf(first, inPod bool, pid int) confinement {
	switch {
	case first, inPod && pid != 1:
		return confinement{}
	case inPod:
		return confinement{
			problem: "only the agent itself is seen, not the node's other processes: its pod has a PID namespace of its own",
			remedy:  "set agent.hostPID=true, or hostPID of the node's pool, in the values of the chart",
		}
	}
	return confinement{
		problem: "only the processes of this container are seen, not the machine's others: it has a PID namespace of its own",
		remedy:  "run this outside of containers, or in one with the machine's PID namespace (docker run --pid=host)",
	}
}

// confines says whether a gadget's records are incomplete because of where the agent is.
func (a *Agent) confines(gadget string) bool {
	if a.confined == (confinement{}) {
		return false
	}
	object, err := a.opts.Gadgets.Object(gadget)
	return err == nil && object.Spec.VisitsTasks()
}

// tellConfinement tells a client what a gadget can't show it.
func (a *Agent) tellConfinement(gadget string, send func(*wire.RunResponse) error) error {
	if !a.confines(gadget) {
		return nil
	}
	notice := &wire.Notice{Text: a.confined.problem + "; " + a.confined.remedy}
	return send(&wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: notice}})
}

// examineConfinement adds it to the finding of a gadget that can be loaded.
func (a *Agent) examineConfinement(f *wire.Finding) {
	if !a.confines(f.GetGadget()) {
		return
	}
	f.Severity = wire.SeverityRestricted
	f.Problem += "; " + a.confined.problem
	f.Remedy = strings.TrimPrefix(f.Remedy+"; "+a.confined.remedy, "; ")
}
