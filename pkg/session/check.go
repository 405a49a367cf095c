// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// Problem is something in a spec that the gadget doesn't take.
type Problem struct {
	// Field is where it is: "spec.params[uid]".
	Field string
	// Message says what is wrong, and what is allowed.
	Message string
}

// String is the problem as a sentence.
func (p Problem) String() string { return p.Field + ": " + p.Message }

// Check says all that g doesn't take of the session's spec.
func Check(s *Session, g *gadget.Spec) []Problem {
	problems := checkParams(s.Spec.Params, g)
	schema := event.NewSchema(g.Source, event.Options{})
	if filter := s.Spec.Filter; filter != "" {
		if _, err := event.CompileFilter(schema, filter); err != nil {
			problems = append(problems, Problem{"spec.filter", strings.TrimPrefix(err.Error(), "filter: ")})
		}
	}
	problems = append(problems, checkInterval(s, g)...)
	if size := s.Spec.BufferSize; size != nil && (size.Sign() <= 0 || size.CmpInt64(tracer.MaxBufferSize) > 0) {
		problems = append(problems, Problem{"spec.bufferSize", fmt.Sprintf("is %s, want more than 0 and at most %dMi", size, tracer.MaxBufferSize>>20)})
	}
	if metrics := s.Spec.Output.Metrics; metrics != nil {
		for i, label := range metrics.Labels {
			if _, err := schema.Column(label); err != nil {
				problems = append(problems, Problem{fmt.Sprintf("spec.output.metrics.labels[%d]", i), err.Error()})
			}
		}
	}
	if !identifies(g.Source) {
		problems = append(problems, Problem{"spec.gadget.name", fmt.Sprintf("records of gadget %s don't say whose they are, so that no session can have them", g.Name)})
	}
	return problems
}

func checkParams(params map[string]string, g *gadget.Spec) []Problem {
	if len(params) > wire.MaxParams {
		return []Problem{{"spec.params", fmt.Sprintf("%d parameters, at most %d are taken", len(params), wire.MaxParams)}}
	}
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(params)) {
		field := fmt.Sprintf("spec.params[%.64s]", name)
		param, ok := g.Param(name)
		if !ok {
			problems = append(problems, Problem{field, unknownParam(g)})
			continue
		}
		if _, err := param.Encode(params[name], binary.LittleEndian); err != nil {
			problems = append(problems, Problem{field, strings.TrimPrefix(err.Error(), "--"+name+" ")})
		}
	}
	return problems
}

func unknownParam(g *gadget.Spec) string {
	if len(g.Params) == 0 {
		return fmt.Sprintf("gadget %s has no parameters", g.Name)
	}
	known := make([]string, 0, len(g.Params))
	for _, p := range g.Params {
		known = append(known, p.Name)
	}
	return fmt.Sprintf("gadget %s has no such parameter, it has: %s", g.Name, strings.Join(known, ", "))
}

func checkInterval(s *Session, g *gadget.Spec) []Problem {
	interval := s.Spec.Interval
	switch {
	case interval == nil:
		return nil
	case g.Source.Kind == gadget.Events:
		return []Problem{{"spec.interval", fmt.Sprintf("gadget %s reports events as they happen and has no interval", g.Name)}}
	case interval.Duration < tracer.MinInterval:
		return []Problem{{"spec.interval", fmt.Sprintf("is %v, want at least %v", interval.Duration, tracer.MinInterval)}}
	}
	return nil
}

// identifies says whether a record names the process that made it.
func identifies(source gadget.Source) bool {
	return slices.ContainsFunc(source.Fields, func(f gadget.Field) bool {
		return f.Semantic == gadget.Cgroup && f.Size == 8 && !strings.Contains(f.Name, ".")
	})
}
