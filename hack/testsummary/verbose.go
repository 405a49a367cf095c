// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// verdict is a line such as "    --- SKIP: TestOpen/kprobe (0.00s)". On a
	// serial console, a kernel message may stand before it.
	verdict = regexp.MustCompile(`--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)$`)
	// speaker is a line that says whose output follows, such as "=== NAME  TestOpen".
	speaker = regexp.MustCompile(`=== (?:RUN|CONT|NAME|PAUSE) +(\S+)$`)
	// remark is a line such as "    open_test.go:12: needs kprobes".
	remark = regexp.MustCompile(`\w+\.go:\d+: .*$`)
	// end is the last line of a test binary.
	end = regexp.MustCompile(`\b(PASS|FAIL)$`)
)

// readLogs collects the tests from files with the output of "go test -v". The
// name of a file, such as 6.1.log, says which kernel they ran on.
func readLogs(paths []string) ([]result, error) {
	var results []result
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading test output: %w", err)
		}
		kernel := "kernel-" + strings.TrimSuffix(filepath.Base(path), ".log")
		results = append(results, readVerbose(kernel, string(text))...)
	}
	return results, nil
}

// readVerbose collects the tests from one text. A text that breaks off counts
// as a failed test of its own.
func readVerbose(kernel, text string) []result {
	outcomes := map[string]outcome{"PASS": passed, "FAIL": failed, "SKIP": skipped}
	var results []result
	// The verdicts of subtests follow that of their parent, long after what the
	// subtests said.
	said, speaks, ended := map[string]string{}, "", false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if m := verdict.FindStringSubmatch(line); m != nil {
			r := result{name: kernel + "." + m[2], outcome: outcomes[m[1]]}
			if r.outcome == skipped {
				r.reason = said[m[2]]
			}
			results = append(results, r)
			continue
		}
		if m := speaker.FindStringSubmatch(line); m != nil {
			speaks = m[1]
		}
		if m := remark.FindString(line); m != "" {
			said[speaks] = m
		}
		ended = ended || end.MatchString(line)
	}
	if !ended {
		results = append(results, result{kernel, failed, ""})
	}
	return results
}
