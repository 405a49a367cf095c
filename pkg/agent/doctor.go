// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// doctorLifetime is how long findings are believed: looking means loading every gadget.
const doctorLifetime = 2 * time.Minute

// doctorTimeout bounds a look: a BTF service may be asked.
const doctorTimeout = time.Minute

// tracepoints is where the kernel describes them.
const tracepoints = "/sys/kernel/tracing/events"

// doctor looks for what stands in the way of gadgets. The zero value has not looked yet.
type doctor struct {
	// looking is held while somebody looks, mu for the rest.
	looking  sync.Mutex
	mu       sync.Mutex
	findings []*wire.Finding
	at       time.Time
}

// last are the findings of the last look, nil if there was none.
func (d *doctor) last() []*wire.Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.findings
}

// look returns findings that are fresh enough, or makes new ones.
func (d *doctor) look(examine func() []*wire.Finding) []*wire.Finding {
	d.looking.Lock()
	defer d.looking.Unlock()
	if time.Since(d.at) < doctorLifetime {
		return d.last()
	}
	findings := examine()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.findings, d.at = findings, time.Now()
	return findings
}

// Doctor is part of wire.AgentServer.
func (a *Agent) Doctor(context.Context, *wire.DoctorRequest) (*wire.DoctorResponse, error) {
	// Others get these findings too: the look goes on when this client leaves.
	ctx, cancel := context.WithTimeout(a.stopping, doctorTimeout)
	defer cancel()
	findings := a.doctor.look(func() []*wire.Finding { return a.examine(ctx) })
	return &wire.DoctorResponse{Findings: findings}, nil
}

// examine looks at the node, and loads each gadget for a moment.
func (a *Agent) examine(ctx context.Context) []*wire.Finding {
	findings := slices.Concat(a.examineTypes(), a.examineRights(), a.examineContainers())
	for _, name := range a.opts.Gadgets.Names() {
		findings = append(findings, a.examineGadget(ctx, name))
	}
	return findings
}

func finding(severity uint32, problem, remedy string) []*wire.Finding {
	return []*wire.Finding{{Severity: severity, Problem: oneLine(problem), Remedy: oneLine(remedy)}}
}

func (a *Agent) examineTypes() []*wire.Finding {
	if a.untyped == nil {
		return finding(wire.SeverityFine, a.opts.Types.Source.String(), "")
	}
	return finding(wire.SeverityBroken, a.opts.Types.Source.String(), remedy(a.untyped))
}

func (a *Agent) examineRights() []*wire.Finding {
	release := a.opts.Types.Source.Release
	own, err := ownCapabilities()
	var findings []*wire.Finding
	switch missing := own.missing(release); {
	case err != nil:
		findings = finding(wire.SeverityRestricted, err.Error(), "")
	case len(missing) > 0:
		findings = finding(wire.SeverityBroken, fmt.Sprintf("the agent lacks %s; it has %s", strings.Join(missing, ", "), own),
			"give the agent's container "+strings.Join(missing, ", "))
	case older(release, 5, 11) && !own.has(unix.CAP_SYS_RESOURCE):
		findings = finding(wire.SeverityRestricted, "without CAP_SYS_RESOURCE kernels before 5.11 may have too little locked memory for maps",
			"give the agent's container CAP_SYS_RESOURCE")
	default:
		findings = finding(wire.SeverityFine, "capabilities: "+own.String(), "")
	}
	if _, err := os.Stat(tracepoints); err != nil {
		findings = append(findings, finding(wire.SeverityRestricted, fmt.Sprintf("no tracefs: %v", err),
			"mount -t tracefs tracefs /sys/kernel/tracing on the node, and mount that into the agent's container")...)
	}
	if a.opts.Heartbeat == nil && a.beatless != nil {
		findings = append(findings, finding(wire.SeverityRestricted, "it isn't watched whether events flow: "+a.beatless.Error(), remedy(a.beatless))...)
	}
	return findings
}

func (a *Agent) examineContainers() []*wire.Finding {
	switch {
	case a.blind != nil:
		return finding(wire.SeverityBroken, "containers aren't known: "+brief(a.blind), remedy(a.blind))
	case a.opts.Containers == nil:
		return finding(wire.SeverityRestricted, errNoContainers.Error(), "start the agent with --containers")
	}
	var findings []*wire.Finding
	name := a.opts.Containers.Stats().Resolver
	if strings.HasPrefix(name, "no container runtime") || name == "" {
		remedy := "name the runtime's socket with --runtime-socket, and mount its directory below the host's root"
		if strings.Contains(name, "permission denied") {
			remedy = "let the agent's user connect to the socket"
		}
		findings = finding(wire.SeverityRestricted, "of containers only ids are known: "+name, remedy)
	} else {
		findings = finding(wire.SeverityFine, "container runtime: "+name, "")
	}
	if a.stale.Load() {
		findings = append(findings, finding(wire.SeverityRestricted, "labels and owners of pods may be out of date: the API server doesn't answer", "see the agent's log")...)
	}
	return findings
}

// examineGadget loads a gadget with all its hooks, for a moment.
func (a *Agent) examineGadget(ctx context.Context, name string) *wire.Finding {
	choices, err := a.try(ctx, name)
	f := &wire.Finding{Gadget: name, Severity: wire.SeverityFine}
	if err != nil {
		f.Severity, f.Problem, f.Remedy = wire.SeverityBroken, brief(err), oneLine(a.gadgetRemedy(name, err))
		return f
	}
	var used, lacking []string
	for _, c := range choices {
		if c.Alternative == "" {
			f.Severity = wire.SeverityRestricted
			lacking = append(lacking, c.Group)
			continue
		}
		used = append(used, c.Group+"="+c.Alternative)
	}
	f.Problem = "attached as " + strings.Join(used, ", ")
	if len(lacking) > 0 {
		f.Problem += "; no hook for " + strings.Join(lacking, ", ")
		f.Remedy = "a newer kernel, or one with more features, has more hooks: see what the gadget needs with inspect"
	}
	a.examineConfinement(f)
	return f
}

// gadgetRemedy is what an operator can do about a gadget that can't be loaded.
func (a *Agent) gadgetRemedy(name string, err error) string {
	var unsupported *tracer.UnsupportedError
	object, missing := a.opts.Gadgets.Object(name)
	if missing != nil || !errors.As(err, &unsupported) || errors.Is(err, os.ErrPermission) {
		return remedy(err)
	}
	if slices.Contains(object.Spec.NeedsKernelBTF(), unsupported.Group) && a.opts.Chooser != nil && !a.opts.Chooser.InKernel() {
		return "run a kernel built with CONFIG_DEBUG_INFO_BTF=y: the only hooks for this need types that the kernel carries itself"
	}
	var needs []string
	for _, group := range object.Spec.Groups {
		for _, alternative := range group.Alternatives {
			if group.Name == unsupported.Group {
				needs = append(needs, alternative.Needs()[0].String())
			}
		}
	}
	return "run a kernel that has " + strings.Join(needs, " or ")
}

func (a *Agent) try(ctx context.Context, name string) ([]tracer.Choice, error) {
	object, err := a.opts.Gadgets.Object(name)
	if err != nil {
		return nil, err
	}
	types, err := a.kernelTypes(ctx, object)
	if err != nil {
		return nil, err
	}
	t, err := tracer.Open(object, tracer.Options{
		KernelTypes: types.Spec, Cache: a.types.get(), BufferSize: os.Getpagesize(), Params: allHooks(&object.Spec),
	})
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return t.Choices(), nil
}

// allHooks are the parameters without which some hooks aren't used.
func allHooks(spec *gadget.Spec) map[string]string {
	params := map[string]string{}
	for _, group := range spec.Groups {
		for _, alternative := range group.Alternatives {
			for _, program := range alternative.Programs {
				if program.When != "" {
					params[program.When] = "true"
				}
			}
		}
	}
	return params
}

// brief is an error in one line, without what the remedy says and the node's own
// finding has in full.
func brief(err error) string {
	var notFound *kernel.NotFoundError
	if errors.As(err, &notFound) {
		return notFound.Summary()
	}
	return oneLine(err.Error())
}

// remedy is what an operator can do about an error.
func remedy(err error) string {
	var notFound *kernel.NotFoundError
	switch {
	case errors.As(err, &notFound):
		return strings.Join(notFound.Remedies(), "; or ")
	case errors.Is(err, os.ErrPermission):
		return "give the agent's container CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN on kernels before 5.8"
	case strings.Contains(err.Error(), "/sys/kernel/tracing") || strings.Contains(err.Error(), "tracefs"):
		return "mount -t tracefs tracefs /sys/kernel/tracing on the node, and mount that into the agent's container"
	}
	return "see the agent's log"
}
