// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// What is not at hand is extrapolated to this.
const (
	hubFiles = 4100 // in BTFHub's archive
	hubCores = 2
)

// btfTargets are in the order of the report.
var btfTargets = []target[*btfResults]{
	{
		What: "processor time of `btfgen tailor`, a process a file as bpftool needs it, against bpftool's", Limit: 50, Unit: " %",
		Format: whole, Value: func(res *btfResults) spread { return res.spread(againstBpftool(perFileUsage)) },
	},
	{
		What: "the same of `btfgen build`, one process for all the raw files", Limit: 50, Unit: " %",
		Format: whole, Value: func(res *btfResults) spread { return res.spread(againstBpftool(rawUsage)) },
	},
	{
		What: "size of the bundle, against a solid tar.xz of the same contents", Limit: 110, Unit: " %", Format: decimals(1),
		Value: func(res *btfResults) spread {
			solid := res.bytesOf(sizeSolid)
			if solid == 0 {
				return spread{}
			}
			return spreadOf([]float64{100 * float64(res.bytesOf(sizeBundle)) / float64(solid)})
		},
	},
	{
		What: "size of a bundle of 4,000 kernels: the synthetic one, or the arithmetic if that is more", Limit: 2, Unit: " MB",
		Format: decimals(2), Value: func(res *btfResults) spread {
			if res.Grown.Kernels != grownKernels {
				return spread{}
			}
			return spreadOf([]float64{max(float64(res.Grown.Bytes), res.perKernel()*grownKernels) / 1e6})
		},
	},
	{
		What: "look-up in the synthetic one, opening included", Limit: 5, Unit: " ms", Format: decimals(2),
		Value: func(res *btfResults) spread { return res.spread(onlyFull(grownMedian)) },
	},
	{
		What: "the slowest of all these look-ups", Limit: 5, Unit: " ms", Format: decimals(2), Worst: true,
		Value: func(res *btfResults) spread { return res.spread(onlyFull(grownSlowest)) },
	},
	{
		What: "all of BTFHub on two processors, extrapolated", Limit: 10, Unit: " min", Format: decimals(1),
		Value: func(res *btfResults) spread { return res.spread(hubMinutes) },
	},
	{
		What: "memory of an agent with a session whose types come from a bundle, more than without a session", Limit: 10, Unit: " MB",
		Format: decimals(1), Value: func(res *btfResults) spread { return res.spread(agentMore(agentBundle, agentNow)) },
	},
	{
		What: "the same without the program's pages and the kernel's buffer", Limit: 10, Unit: " MB", Format: decimals(1),
		Value: func(res *btfResults) spread { return res.spread(agentMore(agentBundle, agentAnonymous)) },
	},
}

// perKernel is how many bytes of the corpus' bundle a kernel takes.
func (res *btfResults) perKernel() float64 {
	return float64(res.bytesOf(sizeBundle)) / float64(res.Kernels)
}

// btfFigure takes one value from what a round measured; ok is false if it has none.
type btfFigure func(res *btfResults, s btfSample) (value float64, ok bool)

func (res *btfResults) spread(f btfFigure) spread {
	var values []float64
	for _, s := range res.Samples {
		if v, ok := f(res, s); ok {
			values = append(values, v)
		}
	}
	return spreadOf(values)
}

func perFileUsage(s btfSample) usage { return s.PerFile }
func bpftoolUsage(s btfSample) usage { return s.Bpftool }
func rawUsage(s btfSample) usage     { return s.Raw }
func packedUsage(s btfSample) usage  { return s.Packed }

// cpuMillis is processor time a kernel.
func cpuMillis(of func(btfSample) usage) btfFigure {
	return func(res *btfResults, s btfSample) (float64, bool) {
		u := of(s)
		return millis(u.CPU.sum()) / float64(res.Kernels), u.Wall > 0
	}
}

func wallSeconds(of func(btfSample) usage) btfFigure {
	return func(_ *btfResults, s btfSample) (float64, bool) {
		u := of(s)
		return u.Wall.Seconds(), u.Wall > 0
	}
}

func usagePeakMB(of func(btfSample) usage) btfFigure {
	return func(_ *btfResults, s btfSample) (float64, bool) {
		u := of(s)
		return megabytes(u.Peak), u.Peak > 0
	}
}

// againstBpftool is processor time in percent of bpftool's.
func againstBpftool(of func(btfSample) usage) btfFigure {
	return func(_ *btfResults, s btfSample) (float64, bool) {
		theirs := s.Bpftool.CPU.sum()
		return 100 * float64(of(s).CPU.sum()) / float64(max(theirs, 1)), theirs > 0
	}
}

// decodeMillis is what unpacking xz adds, a kernel.
func decodeMillis(res *btfResults, s btfSample) (float64, bool) {
	packed, ok := cpuMillis(packedUsage)(res, s)
	raw, rawOK := cpuMillis(rawUsage)(res, s)
	return packed - raw, ok && rawOK
}

func hubMinutes(res *btfResults, s btfSample) (float64, bool) {
	ms, ok := cpuMillis(packedUsage)(res, s)
	return ms / 1000 * hubFiles / hubCores / 60, ok
}

func corpusMedian(_ *btfResults, s btfSample) (float64, bool) {
	return s.Corpus.Median, s.Corpus.Count > 0
}

func corpusSlowest(_ *btfResults, s btfSample) (float64, bool) {
	return s.Corpus.Slowest, s.Corpus.Count > 0
}

func grownMedian(_ *btfResults, s btfSample) (float64, bool) {
	return s.Grown.Median, s.Grown.Count > 0
}

func grownSlowest(_ *btfResults, s btfSample) (float64, bool) {
	return s.Grown.Slowest, s.Grown.Count > 0
}

// onlyFull is for targets: a smoke run's bundle is too small to tell.
func onlyFull(f btfFigure) btfFigure {
	return func(res *btfResults, s btfSample) (float64, bool) {
		v, ok := f(res, s)
		return v, ok && res.Grown.Kernels == grownKernels
	}
}

// agentNames are the agents in the order of btfSample.Agents.
var agentNames = []string{agentIdle, agentBundle, agentKernel}

// agentFigure takes a number of bytes from an agent's sample, as MB.
func agentFigure(name string, of func(agentSample) uint64) btfFigure {
	return func(_ *btfResults, s btfSample) (float64, bool) {
		i := slices.Index(agentNames, name)
		if i < 0 || i >= len(s.Agents) || s.Agents[i].Failed {
			return 0, false
		}
		return megabytes(of(s.Agents[i])), true
	}
}

func agentNow(s agentSample) uint64       { return s.Memory.Now }
func agentPeak(s agentSample) uint64      { return s.Memory.Peak }
func agentAnonymous(s agentSample) uint64 { return s.Anonymous }

// agentMore is by how many MB an agent is larger than one without a session.
func agentMore(name string, of func(agentSample) uint64) btfFigure {
	return func(res *btfResults, s btfSample) (float64, bool) {
		idle, ok := agentFigure(agentIdle, of)(res, s)
		busy, busyOK := agentFigure(name, of)(res, s)
		return busy - idle, ok && busyOK
	}
}
