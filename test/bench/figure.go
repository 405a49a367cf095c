// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// figure takes one value from a sample; ok is false if the sample has none.
type figure func(s sample) (value float64, ok bool)

// spread applies a figure to all samples of a row; of no row it is empty.
func (r *row) spread(f figure) spread {
	if r == nil {
		return spread{}
	}
	var values []float64
	for _, s := range r.Samples {
		if v, ok := f(s); ok {
			values = append(values, v)
		}
	}
	return spreadOf(values)
}

func callRate(s sample) (float64, bool)   { return s.Flood.Rate(), s.Flood.Calls > 0 }
func sent(s sample) (float64, bool)       { return float64(s.Flood.Calls), true }
func lost(s sample) (float64, bool)       { return float64(s.Lost), true }
func cpuSeconds(s sample) (float64, bool) { return s.Total.sum().Seconds(), true }
func peakMB(s sample) (float64, bool)     { return megabytes(s.Memory.Peak), s.Memory.Peak > 0 }
func nowMB(s sample) (float64, bool)      { return megabytes(s.Memory.Now), s.Memory.Now > 0 }

func megabytes(bytes uint64) float64 { return float64(bytes) / 1e6 }

func seenPercent(s sample) (float64, bool) {
	return 100 * float64(s.Seen) / float64(s.Flood.Calls), s.Flood.Calls > 0
}

// userMicros is processor time outside of the kernel for each event that came,
// the generator's or not.
func userMicros(s sample) (float64, bool) { return perEvent(s, s.Load.User) }

func allMicros(s sample) (float64, bool) { return perEvent(s, s.Load.sum()) }

func perEvent(s sample, used time.Duration) (float64, bool) {
	events := s.Seen + s.Others
	return micros(used) / float64(max(events, 1)), events > 0
}

// callMicros is what a call costs the generator; half of it is in the kernel, and
// so is what a tool adds.
func callMicros(s sample) (float64, bool) {
	return micros(s.Flood.CPU.sum()) / float64(max(s.Flood.Calls, 1)), s.Flood.Calls > 0
}

// cost is all processor time that tracing a call took: the tool's, and what the
// call needed more than alone. In microseconds.
func cost(alone spread) figure {
	return func(s sample) (float64, bool) {
		call, ok := callMicros(s)
		return call - alone.Median + micros(s.Load.sum())/float64(max(s.Flood.Calls, 1)), ok && alone.N > 0
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func attachMillis(s sample) (float64, bool) { return millis(s.Attach), s.Attach > 0 }
func firstMillis(s sample) (float64, bool)  { return millis(s.First), s.First > 0 }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// slowdown is by how many percent fewer calls were made than without a tool.
func slowdown(alone spread) figure {
	return func(s sample) (float64, bool) {
		return 100 * (1 - s.Flood.Rate()/alone.Median), alone.Median > 0 && s.Flood.Calls > 0
	}
}
