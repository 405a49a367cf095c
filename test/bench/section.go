// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// in lists the rows of a section that were measured.
func (res *results) in(section string) []*row {
	var list []*row
	for _, r := range res.Rows {
		if r.Section == section && len(r.Samples) > 0 {
			list = append(list, r)
		}
	}
	return list
}

func (res *results) idleTable() string {
	rows := res.in(sectionIdle)
	if len(rows) == 0 {
		return ""
	}
	t := table{header: []string{"program", "MB", "MB at its peak", "CPU s/s"}}
	perSecond := func(s sample) (float64, bool) {
		// The settling is part of the time, the start isn't.
		return s.Load.sum().Seconds() / (res.Opts.Duration + settle).Seconds(), true
	}
	for _, r := range rows {
		t.add(r.toolName(), r.spread(nowMB).cell(decimals(1)), r.spread(peakMB).cell(decimals(1)), r.spread(perSecond).cell(decimals(3)))
	}
	return t.String()
}

func (res *results) startupTable() string {
	rows := res.in(sectionStartup)
	if len(rows) == 0 {
		return ""
	}
	t := table{header: []string{"tool", "traces", "attached, ms", "first event on a terminal, ms", "CPU s"}}
	for _, r := range rows {
		t.add(r.toolName(), r.Kind, r.spread(attachMillis).cell(whole), r.spread(firstMillis).cell(whole), r.spread(cpuSeconds).cell(decimals(2)))
	}
	return t.String()
}

// standardUnits have columns of their own.
var standardUnits = []string{"ns/op", "B/op", "allocs/op"}

func (res *results) microTable() string {
	if len(res.Micro) == 0 {
		return ""
	}
	t := table{header: append(append([]string{"package: benchmark"}, standardUnits...), "other")}
	for _, m := range res.Micro {
		cells := []string{strings.TrimPrefix(m.Package, "nodegadget.dev/") + ": " + m.Name}
		for _, unit := range standardUnits {
			cells = append(cells, m.cell(unit))
		}
		var other []string
		for _, unit := range slices.Sorted(maps.Keys(m.Metrics)) {
			if !slices.Contains(standardUnits, unit) {
				other = append(other, m.cell(unit)+" "+unit)
			}
		}
		t.add(append(cells, strings.Join(other, ", "))...)
	}
	return t.String()
}

func (m microResult) cell(unit string) string {
	v, ok := m.Metrics[unit]
	switch {
	case !ok:
		return nothing
	case v >= 100 || v == float64(int64(v)):
		return whole(v)
	}
	return decimals(2)(v)
}

// commands shows how every tool was called; $BENCH is where agents listened.
func (res *results) commands() string {
	t := table{header: []string{"tool", "command"}, texts: 2}
	seen := map[string]bool{}
	for _, r := range res.Rows {
		if r.Tool == nil || seen[r.Kind+r.Tool.Name] || len(r.Samples) == 0 {
			continue
		}
		seen[r.Kind+r.Tool.Name] = true
		text := "`" + res.shell(r.Tool.Command()) + "`"
		if r.Tool.Agent != nil {
			agent := "`" + res.shell(r.Tool.Agent) + "`"
			switch r.Tool.Sessions {
			case 0:
				text = agent
			case 1:
				text = agent + " and " + text
			default:
				text = fmt.Sprintf("%s and %d × %s", agent, r.Tool.Sessions, text)
			}
		}
		t.add(r.Kind+": "+r.Tool.Name, text)
	}
	if len(t.rows) == 0 {
		return ""
	}
	return t.String()
}

// shell writes a command as one types it.
func (res *results) shell(argv []string) string {
	var words []string
	for _, word := range argv {
		word = strings.ReplaceAll(word, res.Dir, "$BENCH")
		word = strings.Replace(word, res.Opts.Bin+"/", "bin/", 1)
		if strings.ContainsAny(word, " '\"(){}*") {
			word = "'" + word + "'"
		}
		words = append(words, strings.ReplaceAll(word, "|", "\\|"))
	}
	return strings.Join(words, " ")
}

// remarks lists what is missing, with the reasons, and what else is worth saying.
func (res *results) remarks() string {
	var b strings.Builder
	for _, text := range res.Skipped {
		fmt.Fprintf(&b, "- Not measured: %s\n", text)
	}
	for _, r := range res.Rows {
		for _, text := range r.Failures {
			fmt.Fprintf(&b, "- Failed: %s: %s\n", r.name(), text)
		}
		for _, s := range r.Samples {
			if s.Unbalanced != "" {
				fmt.Fprintf(&b, "- Wrong books: %s: %s\n", r.name(), s.Unbalanced)
			}
			if s.Skipped > 0 {
				fmt.Fprintf(&b, "- %s: the kernel left out %s program runs\n", r.name(), thousands(s.Skipped))
			}
		}
	}
	return b.String()
}
