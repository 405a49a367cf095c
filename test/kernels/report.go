// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
)

// tailLines is how much of the console of a failed guest is shown.
const tailLines = 40

// print writes one line for a kernel, and below it the tests that did not run or
// did not pass.
func (r result) print(w io.Writer) {
	word := "ok"
	if r.Err != nil {
		word = "FAIL"
	}
	release := cmp.Or(r.Transcript.Exit.Release, "-")
	fmt.Fprintf(w, "%-4s  %-17s  %-30s  %6.1fs%s\n", word, r.Kernel.Name, release, r.Took.Seconds(), r.summary())

	for _, test := range r.Transcript.Failed {
		fmt.Fprintf(w, "      fail  %s\n", test)
	}
	for _, s := range r.Transcript.Skipped {
		fmt.Fprintf(w, "      skip  %s: %s\n", s.Test, cmp.Or(s.Reason, "no reason given"))
	}
	if r.Err == nil {
		return
	}
	tail, err := tailOf(r.Log, tailLines)
	if err != nil || len(tail) == 0 {
		return // the guest never began to speak
	}
	fmt.Fprintf(w, "      the end of %s:\n", r.Log)
	for _, line := range tail {
		fmt.Fprintf(w, "      | %s\n", line)
	}
}

// summary is the reason of a failure and the counts of go test -v, if any.
func (r result) summary() string {
	var parts []string
	if r.Err != nil {
		parts = append(parts, r.Err.Error())
	}
	t := r.Transcript
	if n := t.Passed + len(t.Failed) + len(t.Skipped); n > 0 {
		parts = append(parts, fmt.Sprintf("%d passed, %d failed, %d skipped", t.Passed, len(t.Failed), len(t.Skipped)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, "; ")
}

// tailOf returns the last lines of a console.
func tailOf(path string, n int) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text := string(bytes.TrimSpace(data))
	if text == "" {
		return nil, nil
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return lines, nil
}

// printable drops what would make our terminal do things: colours, carriage
// returns.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' {
			return -1
		}
		return r
	}, line)
}
