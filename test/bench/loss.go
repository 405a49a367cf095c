// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// summary is the line with which our program ends.
type summary struct {
	Events, Lost, Skipped uint64
}

var (
	summaryLine = regexp.MustCompile(`(?m)^([\d,]+) (?:events|rows), ([\d,]+) lost(?: \([^)]*\))?(?:, ([\d,]+) program runs left out.*)?$`)
	// "Lost 12 events on CPU #0!" of libbpf-tools, "Lost 12 events" of bpftrace.
	lostLine   = regexp.MustCompile(`^Lost (\d+) events`)
	lostPrefix = []byte("Lost ")
)

var errNoSummary = errors.New("it ended without its summary")

// parseSummary finds the summary in what our program wrote to stderr.
func parseSummary(stderr string) (summary, error) {
	matches := summaryLine.FindAllStringSubmatch(stderr, -1)
	if len(matches) == 0 {
		return summary{}, errNoSummary
	}
	var s summary
	last := matches[len(matches)-1]
	for i, to := range []*uint64{&s.Events, &s.Lost, &s.Skipped} {
		text := strings.ReplaceAll(last[i+1], ",", "")
		if text == "" {
			continue
		}
		var err error
		if *to, err = strconv.ParseUint(text, 10, 64); err != nil {
			return summary{}, fmt.Errorf("reading the summary: %w", err)
		}
	}
	return s, nil
}

// lostIn reads how another tool says that it lost events.
func lostIn(line []byte) (uint64, bool) {
	if !bytes.HasPrefix(line, lostPrefix) {
		return 0, false
	}
	match := lostLine.FindSubmatch(line)
	if match == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(match[1]), 10, 64)
	return n, err == nil
}

// parseLost adds up all losses that another tool wrote to stderr.
func parseLost(stderr string) uint64 {
	var sum uint64
	for line := range strings.Lines(stderr) {
		if n, ok := lostIn([]byte(strings.TrimSpace(line))); ok {
			sum += n
		}
	}
	return sum
}
