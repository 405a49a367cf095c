// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sections of the measurement, and of the report.
const (
	sectionLoad    = "load"
	sectionAgent   = "agent"
	sectionIdle    = "idle"
	sectionStartup = "startup"
)

// testCase is what is measured a number of times.
type testCase struct {
	Section string
	// Kind is open or exec.
	Kind string
	// Rate is calls per second, 0 for flat out.
	Rate float64
	// Tool is nil for the generator alone.
	Tool *tool
}

func (c testCase) toolName() string {
	if c.Tool == nil {
		return nameAlone
	}
	return c.Tool.Name
}

// name is what --only is matched with.
func (c testCase) name() string {
	switch c.Section {
	case sectionIdle:
		return fmt.Sprintf("%s: %s", c.Section, c.toolName())
	case sectionStartup:
		return fmt.Sprintf("%s %s: %s", c.Section, c.Kind, c.toolName())
	}
	return fmt.Sprintf("%s %s %s: %s", c.Section, c.Kind, rateText(c.Rate), c.toolName())
}

func rateText(rate float64) string {
	if rate == 0 {
		return "flat out"
	}
	return fmt.Sprintf("%s/s", thousands(uint64(rate)))
}

// plan is all that will be measured, and what will not and why.
type plan struct {
	Cases   []testCase
	Skipped []string
}

// Rates of the generators; 0 is flat out. Smoke leaves out what only more of the
// same would show.
var (
	rates      = map[string][]float64{"open": {2_000, 10_000, 50_000, 100_000, 0}, "exec": {200, 1_000, 0}}
	smokeRates = map[string][]float64{"open": {sessionRate, 0}, "exec": {0}}
)

// newPlan lists the cases. Agents listen at socket.
func newPlan(opts options, socket string) plan {
	var p plan
	for _, kind := range []string{"open", "exec"} {
		p.addKind(opts, kind)
	}
	p.addAgent(opts, socket)
	var chosen []testCase
	for _, c := range p.Cases {
		if opts.Only.MatchString(c.name()) {
			chosen = append(chosen, c)
		}
	}
	p.Cases = chosen
	return p
}

// addKind adds the loads of one kind: at every rate the generator alone, our
// program and its peers, and flat out the other ways to run our program.
func (p *plan) addKind(opts options, kind string) {
	ours := ourTools(opts.Bin, kind)
	main := []*tool{ours[0]}
	for _, peer := range peersOf(kind) {
		t, err := peer.find()
		if err != nil {
			p.Skipped = append(p.Skipped, fmt.Sprintf("%s of %s: %v", peer.tool.Name, kind, err))
			continue
		}
		main = append(main, t)
	}
	list := rates
	if opts.Smoke {
		list = smokeRates
	}
	for _, rate := range list[kind] {
		tools := append([]*tool{nil}, main...)
		if rate == 0 {
			tools = append(tools, ours[1:]...)
		}
		for _, t := range tools {
			p.Cases = append(p.Cases, testCase{Section: sectionLoad, Kind: kind, Rate: rate, Tool: t})
		}
	}
	for _, t := range main {
		p.Cases = append(p.Cases, testCase{Section: sectionStartup, Kind: kind, Tool: t})
	}
}

// addAgent adds what needs an agent: many sessions, and memory at rest.
func (p *plan) addAgent(opts options, socket string) {
	p.Cases = append(p.Cases, testCase{Section: sectionIdle, Kind: "open", Tool: ourTools(opts.Bin, "open")[0]})
	if _, err := os.Stat(filepath.Join(opts.Bin, "gadget-agent")); err != nil {
		p.Skipped = append(p.Skipped, "gadget-agent: "+strings.TrimPrefix(err.Error(), "stat "))
		return
	}
	none := agentTool(opts.Bin, socket, "agent, no session", 0)
	one := agentTool(opts.Bin, socket, nameAgent1, 1)
	many := agentTool(opts.Bin, socket, nameAgent16, 16)
	p.Cases = append(
		p.Cases,
		testCase{Section: sectionAgent, Kind: "open", Rate: sessionRate, Tool: one},
		testCase{Section: sectionAgent, Kind: "open", Rate: sessionRate, Tool: many},
		testCase{Section: sectionAgent, Kind: "open", Tool: one},
		testCase{Section: sectionIdle, Kind: "open", Tool: none},
		testCase{Section: sectionIdle, Kind: "open", Tool: one},
		testCase{Section: sectionIdle, Kind: "open", Tool: many},
	)
}

// sessionRate is what sixteen clients can follow on the smallest machine.
const sessionRate = 10_000
