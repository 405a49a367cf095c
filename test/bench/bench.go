// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// row is a case with what its runs gave.
type row struct {
	testCase
	Samples []sample
	// Failures are runs that gave no sample, and why.
	Failures []string
}

// results are all that a report is made of.
type results struct {
	Opts    options
	Machine machine
	Tools   []version
	Rows    []*row
	Skipped []string
	Micro   []microResult
	// Dir is our temporary directory, which the report doesn't name.
	Dir string
}

// bench does everything: it measures, writes the report, and fails if our own
// programs did or their books don't balance.
func bench(ctx context.Context, opts options, stdout, progress io.Writer) error {
	if opts.List {
		for _, c := range newPlan(opts, "").Cases {
			fmt.Fprintln(stdout, c.name())
		}
		return nil
	}
	if err := ready(opts); err != nil {
		return err
	}
	b, err := newBencher(opts)
	if err != nil {
		return err
	}
	defer b.close()
	res := &results{Opts: opts, Dir: b.dir}
	if res.Machine, err = thisMachine(time.Now(), b.dir); err != nil {
		return err
	}
	res.Tools = versions(ctx, opts.Bin)
	plan := newPlan(opts, b.socket())
	res.Skipped = plan.Skipped
	if err := b.measureAll(ctx, plan.Cases, res, progress); err != nil {
		return err
	}
	if opts.Micro {
		if res.Micro, err = runMicro(ctx, opts, progress); err != nil {
			return err
		}
	}
	if err := res.write(stdout); err != nil {
		return err
	}
	return res.verdict(progress)
}

// ready checks what every case needs.
func ready(opts options) error {
	if os.Geteuid() != 0 {
		return errors.New("tracing needs root: run bench with sudo")
	}
	program := filepath.Join(opts.Bin, "kubectl-gadget")
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("there is no %s: run make build, or give --bin", program)
	}
	return nil
}

// measureAll repeats all cases in turn, so that what else goes on in the machine
// meets all of them alike.
func (b *bencher) measureAll(ctx context.Context, cases []testCase, res *results, progress io.Writer) error {
	for _, c := range cases {
		res.Rows = append(res.Rows, &row{testCase: c})
	}
	for rep := range b.opts.Reps {
		for i, r := range res.Rows {
			s, err := b.measure(ctx, r.testCase)
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			said := s.String()
			if err != nil {
				r.Failures = append(r.Failures, err.Error())
				said = "failed: " + err.Error()
			} else {
				r.Samples = append(r.Samples, s)
			}
			fmt.Fprintf(progress, "%d/%d, %d/%d  %s  %s\n", rep+1, b.opts.Reps, i+1, len(res.Rows), r.name(), said)
		}
	}
	return nil
}

// String is a sample in a line of progress.
func (s sample) String() string {
	if s.First > 0 {
		return fmt.Sprintf("first event after %v", s.First.Round(time.Millisecond))
	}
	text := fmt.Sprintf("%s/s, %d sent, %d seen, %d lost, CPU %.2f s, %d MB",
		thousands(uint64(s.Flood.Rate())), s.Flood.Calls, s.Seen, s.Lost, s.Total.sum().Seconds(), s.Memory.Peak>>20)
	if s.Skipped > 0 {
		text += fmt.Sprintf(", %d left out", s.Skipped)
	}
	if s.Unbalanced != "" {
		text += ": books don't balance: " + s.Unbalanced
	}
	return text
}

// write writes the report, and the samples where they were asked for.
func (res *results) write(stdout io.Writer) error {
	if res.Opts.JSON != "" {
		text, err := json.MarshalIndent(res.raw(), "", "  ")
		if err != nil {
			return fmt.Errorf("encoding samples: %w", err)
		}
		if err := os.WriteFile(res.Opts.JSON, append(text, '\n'), 0o644); err != nil {
			return fmt.Errorf("writing samples: %w", err)
		}
	}
	text := res.report()
	if res.Opts.Out == "-" {
		_, err := io.WriteString(stdout, text)
		return err
	}
	return replaceReport(res.Opts.Out, mainReport, text)
}

// rawRow is a row for other programs.
type rawRow struct {
	Case     string   `json:"case"`
	Samples  []sample `json:"samples"`
	Failures []string `json:"failures,omitempty"`
}

func (res *results) raw() []rawRow {
	var rows []rawRow
	for _, r := range res.Rows {
		rows = append(rows, rawRow{Case: r.name(), Samples: r.Samples, Failures: r.Failures})
	}
	return rows
}

// errVerdict says that a line for each fault has been written.
var errVerdict = errors.New("not everything worked, or books don't balance")

// verdict fails for our own faults; others may fail.
func (res *results) verdict(w io.Writer) error {
	bad := false
	fault := func(r *row, text string) {
		bad = true
		fmt.Fprintf(w, "FAIL  %s: %s\n", r.name(), text)
	}
	for _, r := range res.Rows {
		for _, text := range r.Failures {
			if r.Tool == nil || r.Tool.Ours {
				fault(r, text)
				continue
			}
			fmt.Fprintf(w, "note  %s: %s\n", r.name(), text)
		}
		for _, s := range r.Samples {
			if s.Unbalanced != "" {
				fault(r, s.Unbalanced)
			}
		}
	}
	for _, text := range res.Skipped {
		fmt.Fprintf(w, "skipped  %s\n", text)
	}
	if bad {
		return errVerdict
	}
	return nil
}
