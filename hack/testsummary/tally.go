// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// outcome of a test, from best to worst when runs are merged.
type outcome string

const (
	skipped outcome = "skipped"
	passed  outcome = "passed"
	failed  outcome = "failed"
)

// result is one test of one run: its package and name, and why it was skipped.
type result struct {
	name    string
	outcome outcome
	reason  string
}

// merge leaves one result a test, sorted by name, and drops tests that only
// hold subtests: those count themselves. A failed one stays if no subtest of
// it failed.
func merge(results []result) []result {
	rank := []outcome{skipped, passed, failed}
	byName := map[string]result{}
	for _, r := range results {
		old, ok := byName[r.name]
		if !ok || slices.Index(rank, r.outcome) > slices.Index(rank, old.outcome) {
			byName[r.name] = r
		}
	}
	drop := map[string]bool{}
	for _, r := range byName {
		for i := range r.name {
			parent, ok := byName[r.name[:i]]
			if r.name[i] == '/' && ok && (parent.outcome != failed || r.outcome == failed) {
				drop[parent.name] = true
			}
		}
	}
	var merged []result
	for name, r := range byName {
		if !drop[name] {
			merged = append(merged, r)
		}
	}
	slices.SortFunc(merged, func(a, b result) int { return strings.Compare(a.name, b.name) })
	return merged
}

// count words the last line of a report.
func count(results []result) string {
	n := map[outcome]int{}
	for _, r := range results {
		n[r.outcome]++
	}
	return fmt.Sprintf("%d passed, %d failed, %d skipped", n[passed], n[failed], n[skipped])
}

// appendTally adds results to a file, one a line, separated by tabs.
func appendTally(path string, results []result) error {
	var b bytes.Buffer
	for _, r := range results {
		fmt.Fprintf(&b, "%s\t%s\t%s\n", r.outcome, r.name, strings.Join(strings.Fields(r.reason), " "))
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening tally: %w", err)
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		f.Close()
		return fmt.Errorf("writing tally: %w", err)
	}
	return f.Close()
}

// readTally reads what appendTally wrote.
func readTally(path string) ([]result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading tally: %w", err)
	}
	var results []result
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("reading tally %s: malformed line %q", path, line)
		}
		results = append(results, result{fields[1], outcome(fields[0]), fields[2]})
	}
	return results, nil
}

// allowance is a skip that doesn't fail a strict run.
type allowance struct {
	test, reason *regexp.Regexp
}

// readAllowances reads lines of two regular expressions: the first word must
// match the whole name of the test, the rest a part of the reason it gives.
func readAllowances(path string) ([]allowance, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening allowed skips: %w", err)
	}
	defer f.Close()
	var list []allowance
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		test, reason, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("allowed skip %q: want a test and a reason", line)
		}
		var a allowance
		if a.test, err = regexp.Compile("^(?:" + test + ")$"); err != nil {
			return nil, fmt.Errorf("allowed skip %q: %w", line, err)
		}
		if a.reason, err = regexp.Compile(strings.TrimSpace(reason)); err != nil {
			return nil, fmt.Errorf("allowed skip %q: %w", line, err)
		}
		list = append(list, a)
	}
	return list, lines.Err()
}

func covered(list []allowance, r result) bool {
	return slices.ContainsFunc(list, func(a allowance) bool {
		return a.test.MatchString(r.name) && a.reason.MatchString(r.reason)
	})
}
