// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"nodegadget.dev/pkg/gadget"
)

var errPermission = os.ErrPermission

// Choice says which alternative of a group is attached, and why not an earlier one.
type Choice struct {
	Group string
	// Alternative is empty where an optional group could not be attached or
	// isn't wanted in this run.
	Alternative string
	// Programs are the names of the attached ones.
	Programs []string
	// Rejected are the attempts that failed before, optional programs included.
	Rejected []Attempt
}

// Attempt is a program that could not be loaded or attached.
type Attempt struct {
	Alternative, Program string
	Err                  error
}

func (a Attempt) String() string {
	return fmt.Sprintf("%s (%s): %v", a.Alternative, a.Program, a.Err)
}

// UnsupportedError says that no alternative of a group can be attached here.
type UnsupportedError struct {
	Gadget, Group string
	Attempts      []Attempt
}

func (e *UnsupportedError) Error() string {
	tried := make([]string, 0, len(e.Attempts))
	for _, a := range e.Attempts {
		tried = append(tried, a.String())
	}
	return fmt.Sprintf("gadget %s can't run on this kernel: no alternative of %q can be attached: %s",
		e.Gadget, e.Group, strings.Join(tried, "; "))
}

// Unwrap gives access to the reasons, for errors.Is and errors.As.
func (e *UnsupportedError) Unwrap() []error {
	errs := make([]error, 0, len(e.Attempts))
	for _, a := range e.Attempts {
		errs = append(errs, a.Err)
	}
	return errs
}

// attachment is what keeps a program at its hook.
type attachment struct {
	name    string
	program *ebpf.Program
	link    link.Link
}

func (a attachment) detach() {
	if a.link != nil {
		a.link.Close()
	}
}

// attachGroup attaches the first alternative that works.
func (l *loader) attachGroup(group gadget.Group) (Choice, []attachment, error) {
	choice := Choice{Group: group.Name}
	demanded := l.opts.Alternatives[group.Name]
	wanted := false
	for _, alternative := range group.Alternatives {
		if demanded != "" && demanded != alternative.Name {
			continue
		}
		attached, used, attempts := l.attachAlternative(alternative)
		wanted = wanted || used
		choice.Rejected = append(choice.Rejected, attempts...)
		if len(attached) == 0 {
			continue
		}
		choice.Alternative = alternative.Name
		for _, a := range attached {
			choice.Programs = append(choice.Programs, a.name)
		}
		return choice, attached, nil
	}
	switch {
	case !wanted && len(choice.Rejected) == 0, demanded == "" && group.Optional():
		return choice, nil, nil
	}
	return choice, nil, &UnsupportedError{Gadget: l.spec.Name, Group: group.Name, Attempts: choice.Rejected}
}

// attachAlternative attaches all programs of an alternative, or none if one that
// isn't optional fails. Wanted is false if parameters leave none of them in.
func (l *loader) attachAlternative(alternative gadget.Alternative) (attached []attachment, wanted bool, failed []Attempt) {
	for _, program := range alternative.Programs {
		if program.When != "" && !l.isSet(program.When) {
			continue
		}
		wanted = true
		a, err := l.attach(program)
		if err == nil {
			attached = append(attached, a)
			continue
		}
		failed = append(failed, Attempt{Alternative: alternative.Name, Program: program.Section, Err: err})
		if !program.Optional {
			closeAll(attached)
			return nil, wanted, failed
		}
	}
	return attached, wanted, failed
}

func closeAll(attached []attachment) {
	for _, a := range attached {
		a.detach()
		a.program.Close()
	}
}

func (l *loader) attach(program gadget.Program) (attachment, error) {
	if needsKernelBTF(program.Hook()) && !hasKernelBTF() {
		return attachment{}, errors.New("needs a kernel that carries its own BTF (CONFIG_DEBUG_INFO_BTF)")
	}
	loaded, err := l.loadProgram(program.Name)
	if err != nil {
		return attachment{}, err
	}
	at, err := attachProgram(program, loaded)
	if err != nil {
		loaded.Close()
		return attachment{}, fmt.Errorf("attaching: %w", err)
	}
	return attachment{name: program.Name, program: loaded, link: at}, nil
}

func needsKernelBTF(hook string) bool {
	switch hook {
	case "tp_btf", "fentry", "fexit", "fmod_ret", "lsm", "iter":
		return true
	}
	return false
}

func hasKernelBTF() bool {
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	return err == nil
}

func attachProgram(program gadget.Program, loaded *ebpf.Program) (link.Link, error) {
	switch program.Hook() {
	case "tp_btf", "fentry", "fexit":
		return link.AttachTracing(link.TracingOptions{Program: loaded})
	case "raw_tp", "raw_tracepoint":
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: program.Target(), Program: loaded})
	case "kprobe":
		return link.Kprobe(program.Target(), loaded, nil)
	case "kretprobe":
		return link.Kretprobe(program.Target(), loaded, nil)
	case "tracepoint", "tp":
		category, name, _ := strings.Cut(program.Target(), "/")
		return link.Tracepoint(category, name, loaded, nil)
	case "iter":
		return link.AttachIter(link.IterOptions{Program: loaded})
	}
	return nil, fmt.Errorf("hooks of kind %q are not known", program.Hook())
}
