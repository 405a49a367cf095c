// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"nodegadget.dev/pkg/btf/build"
	"nodegadget.dev/pkg/btf/hub"
)

// buildFlags are those of btfgen build.
type buildFlags struct {
	build.Options
	out, report   string
	noCache       bool
	strict, quiet bool
}

func newBuild(s streams) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build --archive DIR|TAR --out FILE OBJECT...",
		Short: "Make a bundle: the tailored BTF of all kernels of an archive",
		Long: `Make a bundle: the tailored BTF of all kernels of an archive in BTFHub's layout.

Entries that can't be used are named and skipped; the exit status is then 3. With
--strict they are an error, nothing is written, and the exit status is 1.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := required(cmd, "archive", "out"); err != nil {
				return err
			}
			return runBuild(cmd, s, f, paths)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Archive, "archive", "", "directory, git checkout or tar file; - for a tar file on standard input")
	flags.StringVar(&f.out, "out", "", "file to write the bundle to")
	flags.StringSliceVar(&f.Filter.Arches, "arch", nil, "only these architectures: x86_64, arm64")
	flags.StringSliceVar(&f.Filter.Distros, "distro", nil, "only these distributions, or patterns such as 'deb*'")
	flags.StringSliceVar(&f.Filter.Releases, "release", nil, "only these releases, or patterns such as '1[68].*'")
	flags.StringVar(&f.report, "report", "", "file to write a report to, as JSON")
	flags.StringVar(&f.Cache, "cache", defaultCache(), "directory for finished work")
	flags.BoolVar(&f.noCache, "no-cache", false, "do all anew and keep nothing")
	flags.IntVarP(&f.Workers, "jobs", "j", 0, "kernels at once (default: one a core)")
	flags.BoolVar(&f.strict, "strict", false, "fail if an entry can't be used")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but problems")
	return cmd
}

// defaultCache is empty where there is no place for one.
func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "nodegadget", "btfgen")
}

func runBuild(cmd *cobra.Command, s streams, f buildFlags, paths []string) error {
	var err error
	if f.Objects, err = readObjects(paths); err != nil {
		return err
	}
	if f.noCache {
		f.Cache = ""
	}
	f.Stdin = s.in
	done := func() {}
	if !f.quiet {
		f.Progress, done = progress(s.err, "tailoring")
	}
	data, report, err := build.Build(cmd.Context(), f.Options)
	done()
	for _, problem := range report.Skipped {
		fmt.Fprintf(s.err, "skipped: %s\n", problem)
	}
	if err != nil {
		return err
	}
	if f.report != "" {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(f.report, append(text, '\n')); err != nil {
			return err
		}
	}
	if report.Entries == 0 {
		return fmt.Errorf("no kernel of %s could be used: want <distro>/<release>/<arch>/<kernel>.btf.tar.xz (%d left out by filters)",
			f.Archive, report.Filtered)
	}
	if f.strict && len(report.Skipped) > 0 {
		return fmt.Errorf("%d entries can't be used, and --strict was given: nothing was written", len(report.Skipped))
	}
	if err := writeFile(f.out, data); err != nil {
		return err
	}
	if !f.quiet {
		fmt.Fprintf(s.out, "%s: %d kernels, %d different, %d bytes (%.0f a kernel); %d tailored, %d from the cache\n",
			f.out, report.Entries, report.Contents, report.Size, float64(report.Size)/float64(report.Entries), report.Tailored, report.Cached)
	}
	if len(report.Skipped) > 0 {
		return &skippedError{fmt.Sprintf("%d entries were skipped", len(report.Skipped))}
	}
	return nil
}

// progress returns a function that shows how far a walk is, if w is a terminal,
// and one that ends the show.
func progress(w io.Writer, what string) (func(hub.Progress), func()) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100_000_000))
	show := func(p hub.Progress) {
		if p.Total > 0 && bar.GetMax() != p.Total {
			bar.ChangeMax(p.Total)
		}
		_ = bar.Set(p.Done) // it can't be drawn: there is nothing to be done about it
	}
	return show, func() { _ = bar.Finish() }
}
