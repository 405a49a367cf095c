// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is one line of "go test -json".
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// goTest runs "go test" and prints what it would print: a line a package, and
// all that failing tests wrote. With -v among the arguments it prints all.
func goTest(args []string, out io.Writer) ([]result, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("running go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running go test: %w", err)
	}
	results, readErr := collect(stdout, out, slices.Contains(args, "-v"))
	_, _ = io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); ok {
			return results, errFailed
		}
		return results, fmt.Errorf("running go test: %w", err)
	}
	return results, readErr
}

// collector turns events into results. It holds each test's output until the
// test has ended, because only a failing one's is shown.
type collector struct {
	out     io.Writer
	verbose bool
	held    map[string]*bytes.Buffer
	results []result
}

func collect(in io.Reader, out io.Writer, verbose bool) ([]result, error) {
	c := collector{out: out, verbose: verbose, held: map[string]*bytes.Buffer{}}
	events := json.NewDecoder(in)
	for {
		var e event
		err := events.Decode(&e)
		if errors.Is(err, io.EOF) {
			return c.results, nil
		}
		if err != nil {
			return c.results, fmt.Errorf("reading events of go test: %w", err)
		}
		c.add(e)
	}
}

func (c *collector) add(e event) {
	name := e.Package
	if e.Test != "" {
		name += "." + e.Test
	}
	switch e.Action {
	case "output", "build-output":
		c.output(name, e)
	case "pass":
		if e.Test != "" {
			c.end(name, passed)
		}
	case "skip":
		if e.Test != "" {
			c.end(name, skipped)
		}
	case "fail":
		if e.Test == "" {
			c.endPackage(e.Package)
			return
		}
		c.flush(name)
		c.end(name, failed)
	}
}

func (c *collector) output(name string, e event) {
	switch {
	case c.verbose, e.Action == "build-output", strings.HasPrefix(e.Output, "fuzz: "):
		fmt.Fprint(c.out, e.Output)
	case e.Test == "" && e.Output != "PASS\n" && e.Output != "FAIL\n":
		fmt.Fprint(c.out, e.Output)
	}
	if e.Test == "" {
		return
	}
	if c.held[name] == nil {
		c.held[name] = &bytes.Buffer{}
	}
	c.held[name].WriteString(e.Output)
}

// endPackage handles a failed package: a test that never ended takes the
// blame, or, as when it doesn't compile, the package itself.
func (c *collector) endPackage(pkg string) {
	blamed := false
	for _, r := range c.results {
		blamed = blamed || r.outcome == failed && strings.HasPrefix(r.name, pkg+".")
	}
	for name := range c.held {
		if strings.HasPrefix(name, pkg+".") {
			blamed = true
			c.flush(name)
			c.end(name, failed)
		}
	}
	if !blamed {
		c.results = append(c.results, result{pkg, failed, ""})
	}
}

func (c *collector) end(name string, o outcome) {
	r := result{name: name, outcome: o}
	if held := c.held[name]; held != nil && o == skipped {
		r.reason = reason(held.String())
	}
	delete(c.held, name)
	c.results = append(c.results, r)
}

func (c *collector) flush(name string) {
	if held := c.held[name]; held != nil && !c.verbose {
		fmt.Fprint(c.out, held.String())
	}
}

// reason picks what a test said from its output.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}
