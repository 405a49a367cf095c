// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// reading tells how to read the tables.
const reading = `Each figure is the median of %d runs, with the lowest and the highest in brackets
where they differ; the runs of different tools took turns. A generator made calls
for %v, as many as it could or at a fixed rate, and counted them: that is *sent*.
It began when the tool was attached, and the tool was stopped when it had ended;
what the tool had written by then is *seen*, what it said it had lost is *lost*.
Tools wrote to a file, on %s.

- *Slowed by* compares with the generator alone, and *µs/call* is the processor time
  that a call takes from the generator: what a tool does in the kernel is paid there.
- *Books* are ours only. *Exact* means that seen + lost is what was sent; *at least*,
  that the tool also traced others, some of whose events may be among the lost.
- *User µs/event* is the tool's own processor time outside of the kernel, from the
  attaching to its end, over all events that came. At low rates that is mostly the
  price of looking whether there are any. *CPU s* is all of it, the start included.
- *MB* are 1,000,000 bytes of resident memory, at its peak.
`

// report is everything that bench has to say, in Markdown.
func (res *results) report() string {
	var b strings.Builder
	part := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, "\n## %s\n\n%s", title, text)
		}
	}
	b.WriteString(res.where())
	part("Targets", targetTable(targets, res))
	part("How to read the tables", fmt.Sprintf(reading, res.Opts.Reps, res.Opts.Duration, res.Machine.Files))
	part("Opening files", res.loadTables(sectionLoad, "open"))
	part("Executing programs", res.loadTables(sectionLoad, "exec"))
	part("An agent and its sessions", res.loadTables(sectionAgent, "open"))
	part("Memory at rest", res.idleTable())
	part("From the start to the first event", res.startupTable())
	part("Each stage by itself", res.microTable())
	part("Commands", res.commands())
	part("Remarks", res.remarks())
	return b.String()
}

// where is the machine and the versions.
func (res *results) where() string {
	return where(res.Machine, res.command(), res.Tools)
}

func where(m machine, command string, tools []version) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s by `%s`: %s, %d processors, %s, Linux %s, %.1f GB of memory, load average %s at the start.\n",
		m.Date.Format("2006-01-02"), command, m.CPU, m.Cores, m.Arch, m.Kernel, float64(m.Memory)/1e9, m.Load)
	var list []string
	for _, v := range tools {
		list = append(list, strings.TrimSpace(v.Program+" "+strings.TrimPrefix(v.Version, v.Program+" version ")))
	}
	fmt.Fprintf(&b, "Versions: %s.\n", strings.Join(list, ", "))
	return b.String()
}

// command is how to repeat this.
func (res *results) command() string {
	args := []string{"go run ./test/bench"}
	if res.Opts.Smoke {
		args = append(args, "--smoke")
	}
	return strings.Join(append(args, "--reps", fmt.Sprint(res.Opts.Reps), "--duration", res.Opts.Duration.String()), " ")
}

func targetTable[R any](targets []target[R], res R) string {
	t := table{header: []string{"what", "target", "result", "verdict"}, texts: 4}
	for _, target := range targets {
		limit := "≤ "
		if target.Limit == 0 {
			limit = ""
		}
		value := target.Value(res)
		t.add(target.What, limit+target.Format(target.Limit)+target.Unit, value.cell(target.Format)+unitOf(value, target.Unit), target.judge(value))
	}
	return t.String()
}

func unitOf(s spread, unit string) string {
	if s.N == 0 {
		return ""
	}
	return unit
}

// loadTables has a table for each rate.
func (res *results) loadTables(section, kind string) string {
	var b strings.Builder
	var seen []float64
	for _, r := range res.Rows {
		if r.Section != section || r.Kind != kind || slices.Contains(seen, r.Rate) {
			continue
		}
		seen = append(seen, r.Rate)
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### %s\n\n%s", title(rateText(r.Rate)), res.loadTable(section, kind, r.Rate))
	}
	return b.String()
}

func title(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func (res *results) loadTable(section, kind string, rate float64) string {
	t := table{header: []string{"tool", "calls/s", "slowed by", "µs/call", "sent", "seen", "lost", "books", "user µs/event", "user+system µs/event", "CPU s", "MB"}}
	// What an agent slows down is compared with the same load of the other section.
	alone := res.find(sectionLoad, kind, rate, nameAlone).spread(callRate)
	for _, r := range res.Rows {
		if r.Section != section || r.Kind != kind || r.Rate != rate || len(r.Samples) == 0 {
			continue
		}
		calls := r.spread(callRate).cell(whole)
		if r.Tool == nil {
			t.add(r.toolName(), calls, nothing, r.spread(callMicros).cell(decimals(2)), r.spread(sent).cell(whole), nothing, nothing, nothing, nothing, nothing, nothing, nothing)
			continue
		}
		slow := nothing
		if rate == 0 {
			slow = r.spread(slowdown(alone)).cell(percent)
		}
		t.add(
			r.toolName(), calls, slow, r.spread(callMicros).cell(decimals(2)), r.spread(sent).cell(whole), r.spread(seenPercent).cell(percent), r.spread(lost).cell(whole), r.books(),
			r.spread(userMicros).cell(decimals(2)), r.spread(allMicros).cell(decimals(2)), r.spread(cpuSeconds).cell(decimals(2)),
			r.spread(peakMB).cell(whole),
		)
	}
	return t.String()
}

// books says how well seen and lost explain sent.
func (r *row) books() string {
	if !r.Tool.Ours {
		return nothing
	}
	word := "exact"
	for _, s := range r.Samples {
		if s.Unbalanced != "" {
			return "**wrong**"
		}
		if s.Lost > 0 && !r.Tool.Alone {
			word = "at least"
		}
	}
	return word
}
