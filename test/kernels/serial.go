// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"nodegadget.dev/test/kernels/internal/task"
)

// transcript is what the serial console of a guest tells.
type transcript struct {
	Exit    task.Exit
	Exited  bool   // the marker came; without it Exit is void
	Panic   string // the kernel's last words
	Passed  int    // lines of go test -v, subtests included
	Failed  []string
	Skipped []skip
}

// skip is a test that did not apply, and its own explanation.
type skip struct{ Test, Reason string }

// verdict is nil if the task ran to its end and succeeded.
func (t transcript) verdict() error {
	switch {
	case t.Panic != "":
		return fmt.Errorf("guest panicked: %s", t.Panic)
	case !t.Exited:
		return errors.New("guest stopped without an exit marker")
	case t.Exit.Code == task.InitFailed:
		return errors.New("task could not be run or exited with 125")
	case t.Exit.Code != 0:
		return fmt.Errorf("exit code %d", t.Exit.Code)
	default:
		return nil
	}
}

var (
	// A kernel message as the console shows it, with or without the thread.
	kernelMessage = regexp.MustCompile(`\[ *\d+\.\d{6}\](\[ *[TC]\d+\])? .*`)
	panicMessage  = regexp.MustCompile(`Kernel panic - not syncing: (.*)`)

	// Lines of go test -v. Output of the test may stand before them.
	testResult = regexp.MustCompile(`--- (PASS|FAIL|SKIP): (\S+) \(\d+\.\d+s\)$`)
	testNow    = regexp.MustCompile(`=== (?:RUN|CONT|NAME|PAUSE) +(\S+)$`)
	testLog    = regexp.MustCompile(`^ +\S+\.go:\d+: (.*)$`)
)

// serialParser reads a console line by line.
type serialParser struct {
	transcript
	half    string // a line a kernel message broke in two
	test    string // the one that speaks
	lastLog map[string]string
}

// parseSerial reads the console of a guest from beginning to end.
func parseSerial(r io.Reader) (transcript, error) {
	p := serialParser{lastLog: make(map[string]string)}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		p.line(strings.TrimRight(strings.ReplaceAll(line, "\r", ""), "\n"))
		if errors.Is(err, io.EOF) {
			return p.transcript, nil
		}
		if err != nil {
			return transcript{}, fmt.Errorf("reading console: %w", err)
		}
	}
}

// line takes kernel messages out first: the kernel writes them whenever it
// likes, also in the middle of a line of the task, whose rest then follows.
func (p *serialParser) line(line string) {
	if m := panicMessage.FindStringSubmatch(line); m != nil && p.Panic == "" {
		p.Panic = m[1]
	}
	if at := kernelMessage.FindStringIndex(line); at != nil {
		p.half += line[:at[0]]
		return
	}
	line, p.half = p.half+line, ""

	if exit, ok := task.ParseExit(line); ok {
		p.Exit, p.Exited = exit, true
	} else if m := testNow.FindStringSubmatch(line); m != nil {
		p.test = m[1]
	} else if m := testResult.FindStringSubmatch(line); m != nil {
		p.result(m[1], m[2])
	} else if m := testLog.FindStringSubmatch(line); m != nil {
		p.lastLog[p.test] = m[1]
	}
}

func (p *serialParser) result(verdict, test string) {
	switch verdict {
	case "PASS":
		p.Passed++
	case "FAIL":
		p.Failed = append(p.Failed, test)
	case "SKIP":
		p.Skipped = append(p.Skipped, skip{Test: test, Reason: p.lastLog[test]})
	}
}
