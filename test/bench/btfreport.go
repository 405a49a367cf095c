// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// btfReading tells how to read the tables.
const btfReading = `The corpus has %d kernels. Their types were tailored to the %d gadgets of this
architecture and to the two objects by which an agent checks types, the same for
all tools. Each figure is the median of %d rounds, with the lowest and the highest
in brackets where they differ; the tools took turns, after a round that wasn't
counted, so files were in memory. On %s.

- *CPU* is user and system time of the processes, as the kernel counts it for the
  parent that waits for them, over the number of kernels. Tools that do one file were
  run as often as there are kernels, as many at a time as there are processors.
- *Peak* is the most resident memory of the largest process (ru_maxrss). That
  counter begins with what the parent had, so the parent was kept small: what is
  below %.1f MB can't be seen.
- *MB* are 1,000,000 bytes.
`

// report is everything that bench btf has to say, in Markdown.
func (res *btfResults) report() string {
	var b strings.Builder
	part := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, "\n### %s\n\n%s", title, text)
		}
	}
	b.WriteString(where(res.Machine, res.command(), res.Tools))
	part("Targets for types", targetTable(btfTargets, res))
	part("How these were measured", fmt.Sprintf(btfReading, res.Kernels, res.Gadgets, res.Opts.Reps, res.Machine.Files, megabytes(res.Floor)))
	part("Tailoring", res.toolTable())
	part("Sizes", res.sizeTable())
	part("Bundles and look-ups", res.bundleTable())
	part("All of BTFHub", res.hubText())
	part("Memory of an agent", res.agentTable())
	part("Commands for types", res.commandTable())
	part("Remarks on types", res.remarks())
	return b.String()
}

func (res *btfResults) command() string {
	text := "go run ./test/bench btf"
	if res.Opts.Smoke {
		text += " --smoke"
	}
	return fmt.Sprintf("%s --reps %d", text, res.Opts.Reps)
}

func (res *btfResults) toolTable() string {
	t := table{header: []string{"tool", "CPU a kernel, ms", "against bpftool", "wall for all, s", "peak, MB"}}
	for _, row := range []struct {
		name string
		of   func(btfSample) usage
	}{
		{"`btfgen tailor`, a process a file", perFileUsage},
		{"`bpftool gen min_core_btf`, a process a file", bpftoolUsage},
		{"`btfgen build`, one process, raw files", rawUsage},
		{"`btfgen build`, one process, `.btf.tar.xz` files", packedUsage},
	} {
		t.add(row.name, res.spread(cpuMillis(row.of)).cell(decimals(1)), res.spread(againstBpftool(row.of)).cell(percent),
			res.spread(wallSeconds(row.of)).cell(decimals(2)), res.spread(usagePeakMB(row.of)).cell(decimals(1)))
	}
	t.add("the difference of these two: unpacking xz", res.spread(decodeMillis).cell(decimals(1)), nothing, nothing, nothing)
	return t.String() + "\nbpftool can't read xz and doesn't make a bundle; `btfgen build` does both.\n"
}

func (res *btfResults) sizeTable() string {
	t := table{header: []string{"what", "bytes", "bytes a kernel", "different"}}
	for _, s := range res.Sizes {
		t.add(s.What, whole(float64(s.Bytes)), whole(float64(s.Bytes)/float64(res.Kernels)), whole(float64(s.Different)))
	}
	return t.String() + "\nSolid files have the layout of BTFHub's archive, so that names cost as much as they do there.\n"
}

func (res *btfResults) bundleTable() string {
	t := table{header: []string{"bundle", "kernels", "different", "bytes", "look-up, ms", "slowest, ms"}}
	made := res.bytesOf(sizeBundle)
	different := 0
	for _, s := range res.Sizes {
		if s.What == sizeBundle {
			different = s.Different
		}
	}
	t.add("of the corpus", whole(float64(res.Kernels)), whole(float64(different)), whole(float64(made)),
		res.spread(corpusMedian).cell(decimals(2)), res.spread(corpusSlowest).cell(decimals(2)))
	g := res.Grown
	t.add("synthetic", whole(float64(g.Kernels)), whole(float64(g.Different)), whole(float64(g.Bytes)),
		res.spread(grownMedian).cell(decimals(2)), res.spread(grownSlowest).cell(decimals(2)))
	return t.String() + fmt.Sprintf(`
A look-up opens the bundle, which checks all of it, finds a kernel, and closes it:
each kernel once a round, at most %d. The median of a round, and its slowest.

The synthetic bundle repeats the corpus as if its kernels got newer: in each round
every content differs from the one before in %d structs, whose members move from a
random one on. That is the median of how many structs a content of the corpus
differs in from the one most like it. So the share of different contents is that of
the corpus. The strings stay as they are, and so does the order of types, which is
kinder than real kernels are: the size is one from below. From above, without any
gain from what more kernels share: %.0f bytes a kernel × 4,000 = %.2f MB.
`, mostLookups, g.Structs, res.perKernel(), res.perKernel()*grownKernels/1e6)
}

func (res *btfResults) hubText() string {
	seconds := res.spread(cpuMillis(packedUsage)).scaled(1. / 1000)
	return fmt.Sprintf("%.3f s of CPU a kernel from the archive × %s files / %d processors = **%.1f minutes**\n",
		seconds.Median, thousands(hubFiles), hubCores, res.spread(hubMinutes).Median)
}

func (res *btfResults) agentTable() string {
	t := table{header: []string{"agent", "MB", "more, MB", "without files, MB", "more, MB", "MB at its peak", "types"}}
	for i, name := range agentNames {
		now := res.spread(agentFigure(name, agentNow))
		if now.N == 0 {
			continue
		}
		more, moreAnonymous := nothing, nothing
		if name != agentIdle {
			more = res.spread(agentMore(name, agentNow)).cell(decimals(1))
			moreAnonymous = res.spread(agentMore(name, agentAnonymous)).cell(decimals(1))
		}
		types := nothing
		if said := res.Samples[0].Agents[i].Types; said != "" {
			types = said
		}
		t.add(name, now.cell(decimals(1)), more, res.spread(agentFigure(name, agentAnonymous)).cell(decimals(1)), moreAnonymous,
			res.spread(agentFigure(name, agentPeak)).cell(decimals(1)), types)
	}
	if len(t.rows) == 0 {
		return ""
	}
	age := sessionAge
	if res.Opts.Smoke {
		age = smokeSessionAge
	}
	return t.String() + fmt.Sprintf(`
Resident (VmRSS, VmHWM), %v after the session began. *Without files* (RssAnon) leaves
out the pages of the program itself, of which a session needs more than an agent at
rest, and the buffer that the kernel writes events to: 4 MiB, mapped and counted
twice. The bundle has this machine's kernel alone.
`, age)
}

func (res *btfResults) commandTable() string {
	t := table{header: []string{"what", "command"}, texts: 2}
	for _, c := range res.Commands {
		t.add(c[0], "`"+c[1]+"`")
	}
	return t.String()
}

func (res *btfResults) remarks() string {
	var b strings.Builder
	for _, text := range res.Skipped {
		fmt.Fprintf(&b, "- Not measured: %s\n", text)
	}
	for _, text := range res.Failures {
		fmt.Fprintf(&b, "- Failed: %s\n", strings.ReplaceAll(text, res.Dir, "$BENCH"))
	}
	return b.String()
}
