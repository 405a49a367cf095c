// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/gadget"
)

// BTFStatus is what an agent with the same setup would do for types.
type BTFStatus struct {
	Kernel kernel.Identity `json:"kernel"`
	// InKernel says whether the kernel carries its own types.
	InKernel bool `json:"inKernel"`
	// Source is what was chosen; its kind is none if nothing was.
	Source kernel.Source `json:"source"`
	// Error says why there are no types, empty if there are.
	Error string `json:"error,omitempty"`
	// Remedies are what the operator can do then.
	Remedies []string `json:"remedies,omitempty"`
	// Unable are the gadgets that can't run here, with the reason, as far as types
	// decide about it.
	Unable []UnableGadget `json:"unable,omitempty"`
}

// UnableGadget is a gadget that can't run here.
type UnableGadget struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Status looks for this kernel's types as an agent would, and says what came of
// it. That there are none is no error.
func Status(ctx context.Context, setup Setup) (*BTFStatus, error) {
	catalog, err := setup.catalog()
	if err != nil {
		return nil, err
	}
	chooser, err := setup.chooser()
	if err != nil {
		return nil, err
	}
	defer chooser.Close()
	s := &BTFStatus{Kernel: chooser.Identity(), InKernel: chooser.InKernel()}
	types, err := chooser.Types(ctx)
	s.Source = types.Source
	if err != nil {
		s.explain(chooser, err)
	}
	for _, name := range catalog.Names() {
		object, err := catalog.Object(name)
		if err != nil {
			return nil, err
		}
		if why := s.unable(ctx, chooser, object); why != "" {
			s.Unable = append(s.Unable, UnableGadget{Name: name, Reason: why})
		}
	}
	return s, nil
}

func (s *BTFStatus) explain(chooser *kernel.Chooser, err error) {
	s.Source, s.Error = noTypes(chooser, err), err.Error()
	var notFound *kernel.NotFoundError
	if errors.As(err, &notFound) {
		s.Error, s.Remedies = notFound.Summary(), notFound.Remedies()
	}
}

// unable says why a gadget can't run, or returns nothing.
func (s *BTFStatus) unable(ctx context.Context, chooser *kernel.Chooser, object *gadget.Object) string {
	if groups := object.Spec.NeedsKernelBTF(); len(groups) > 0 && !s.InKernel {
		return "needs in-kernel BTF, without which the kernel has no hook for " + strings.Join(groups, ", ")
	}
	if s.Source.Kind == kernel.None {
		return "no BTF"
	}
	// What was made for other gadgets may lack what this one needs.
	_, err := chooser.Types(ctx, tailor.Object{Name: object.Spec.Name, Content: object.Content})
	var notFound *kernel.NotFoundError
	switch {
	case errors.As(err, &notFound):
		return "no BTF: " + strings.Join(notFound.Tried, "; ")
	case err != nil:
		return err.Error()
	}
	return ""
}

// WriteJSON writes the status for programs.
func (s *BTFStatus) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

// WriteText writes the status for people.
func (s *BTFStatus) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "kernel:\t%s\n", s.Kernel.Release)
	fmt.Fprintf(table, "distribution:\t%s\n", s.Kernel)
	fmt.Fprintf(table, "architecture:\t%s\n", s.Kernel.Arch)
	fmt.Fprintf(table, "in-kernel BTF:\t%s\n", yesNo(s.InKernel))
	switch {
	case s.Source.Kind != kernel.None:
		fmt.Fprintf(table, "BTF:\t%s, from %s\n", s.Source.Kind, s.Source.Place())
	case len(s.Remedies) > 0:
		fmt.Fprintf(table, "BTF:\tnone\n")
	default:
		fmt.Fprintf(table, "BTF:\tnone: %s\n", s.Error)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var lines []string
	if t := s.Source.Testimony; t != nil {
		for _, fact := range t.Agreed {
			lines = append(lines, fmt.Sprintf("%s is %s", fact.Name, fact.Got))
		}
		if len(t.Unchecked) > 0 {
			lines = append(lines, "not checked: "+strings.Join(t.Unchecked, ", "))
		}
	}
	writeList(w, "checked against the running kernel", lines)
	tried := "tried before"
	if s.Source.Kind == kernel.None {
		tried = "tried"
	}
	if len(s.Remedies) > 0 || s.Source.Kind != kernel.None {
		writeList(w, tried, s.Source.Tried)
	}
	writeList(w, "what helps", s.Remedies)
	lines = nil
	for _, g := range s.Unable {
		lines = append(lines, strings.Replace(g.Name, "_", " ", 1)+": "+g.Reason)
	}
	writeList(w, "gadgets that can't run here", lines)
	return nil
}

func writeList(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "%s:\n", title)
	for _, line := range lines {
		fmt.Fprintf(w, "  - %s\n", line)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
