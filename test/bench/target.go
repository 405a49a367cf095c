// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// target is what the project wants to reach, on two processors with the
// generator on the same machine. R are the results of a measurement.
type target[R any] struct {
	What string
	// Limit is the most that the value may be.
	Limit  float64
	Unit   string
	Format func(float64) string
	// Value is what was reached; nothing if it was not measured.
	Value func(R) spread
	// Worst compares the worst run, not the median.
	Worst bool
}

// targets are in the order of the report.
var targets = []target[*results]{
	{
		What: "events of a flat-out open loop that `trace open -o json` lost or missed", Format: whole, Worst: true,
		Value: func(res *results) spread { return res.find(sectionLoad, "open", 0, nameJSON).spread(missing) },
	},
	{
		What: "its processor time outside of the kernel, from the kernel's buffer to JSON", Limit: 1, Unit: " µs/event",
		Format: decimals(2),
		Value:  func(res *results) spread { return res.find(sectionLoad, "open", 0, nameJSON).spread(userMicros) },
	},
	{
		What: "the same of an agent, from the kernel's buffer to gRPC", Limit: 0.4, Unit: " µs/event", Format: decimals(2),
		Value: func(res *results) spread { return res.find(sectionAgent, "open", 0, nameAgent1).spread(userMicros) },
	},
	{
		What: "slowdown of the traced loop, every event delivered", Limit: 15, Unit: " %", Format: decimals(1),
		Value: func(res *results) spread {
			alone := res.find(sectionLoad, "open", 0, nameAlone).spread(callRate)
			return res.find(sectionLoad, "open", 0, nameJSON).spread(slowdown(alone))
		},
	},
	{
		What: "resident memory of an agent with one session, at its peak", Limit: 40, Unit: " MB", Format: decimals(1),
		Value: func(res *results) spread { return res.find(sectionAgent, "open", 0, nameAgent1).spread(peakMB) },
	},
	{
		What: "`trace exec --local`: from the start until attached", Limit: 300, Unit: " ms", Format: whole,
		Value: func(res *results) spread { return res.find(sectionStartup, "exec", 0, nameJSON).spread(attachMillis) },
	},
	{
		What: "cost of 16 sessions of one gadget, as a multiple of one", Limit: 1.3, Unit: " ×", Format: decimals(2),
		Value: func(res *results) spread {
			cost := cost(res.find(sectionLoad, "open", sessionRate, nameAlone).spread(callMicros))
			one := res.find(sectionAgent, "open", sessionRate, nameAgent1).spread(cost)
			many := res.find(sectionAgent, "open", sessionRate, nameAgent16).spread(cost)
			if one.Median <= 0 {
				return spread{}
			}
			return many.scaled(1 / one.Median)
		},
	},
}

// missing counts the calls that are not among the events, whoever lost them.
func missing(s sample) (float64, bool) {
	return float64(s.Flood.Calls - min(s.Flood.Calls, s.Seen)), s.Flood.Calls > 0
}

// judge says whether the target is met, and if not, by how much it is missed.
func (t target[R]) judge(s spread) string {
	if s.N == 0 {
		return "not measured"
	}
	value := s.Median
	if t.Worst {
		value = s.Max
	}
	if value <= t.Limit {
		return "met"
	}
	return fmt.Sprintf("missed by %s%s", t.Format(value-t.Limit), t.Unit)
}

// find is the row of a case; nil if it was not measured.
func (res *results) find(section, kind string, rate float64, tool string) *row {
	for _, r := range res.Rows {
		if r.Section == section && r.Kind == kind && r.Rate == rate && r.toolName() == tool {
			return r
		}
	}
	return nil
}
