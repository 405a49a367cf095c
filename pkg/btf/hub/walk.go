// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode"

	"nodegadget.dev/pkg/btf/layout"
)

// Walk calls visit for each kernel of an archive, from several goroutines and in
// no particular order. The path names a directory (a git checkout is one), a tar
// file, compressed by gzip, xz, zstd or not at all, or "-" for a tar file on
// [Options.Stdin].
//
// Of several files for one kernel the first counts: the first by name in a
// directory, the first in the order of a tar file. An error of visit ends the
// walk unless it is a [ContentError]; so does the end of ctx. The report then
// says what was done until then.
func Walk(ctx context.Context, path string, opts Options, visit func(ctx context.Context, e *Entry) error) (Report, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return Report{}, err
	}
	w := &walk{
		opts:    opts,
		visit:   visit,
		dec:     &decoder{maxRaw: opts.MaxRaw},
		first:   map[layout.Kernel]string{},
		digests: map[string][sha256.Size]byte{},
	}
	feed, done, err := w.open(path)
	if err != nil {
		return Report{}, err
	}
	defer done()
	if err := parallel(ctx, opts.Workers, feed, w.do); err != nil {
		return w.finish(), fmt.Errorf("reading archive %q: %w", path, err)
	}
	return w.finish(), nil
}

// open returns the function that feeds the workers from what path names.
func (w *walk) open(path string) (feed func(context.Context, func(job) bool) error, done func(), err error) {
	if path == "-" {
		if w.opts.Stdin == nil {
			return nil, nil, errors.New(`archive "-": no standard input was given; name a directory or a tar file`)
		}
		return w.tarFeed(w.opts.Stdin), func() {}, nil
	}
	info, err := os.Stat(path) // before opening, which blocks on a fifo
	if err != nil {
		return nil, nil, fmt.Errorf("archive: %w", err)
	}
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, nil, fmt.Errorf("archive: %w", err)
		}
		return w.dirFeed(root), func() { root.Close() }, nil
	case info.Mode().IsRegular():
		file, err := os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("archive: %w", err)
		}
		return w.tarFeed(file), func() { file.Close() }, nil
	}
	return nil, nil, fmt.Errorf("archive %q: want a directory or a tar file, or - for a tar file on standard input", path)
}

// walk is the state of one call of Walk.
type walk struct {
	opts  Options
	visit func(context.Context, *Entry) error
	dec   *decoder

	// first is the path that counts for each kernel. Only the feeder uses it.
	first map[layout.Kernel]string

	mu       sync.Mutex
	report   Report
	progress Progress
	digests  map[string][sha256.Size]byte // of the files that count, by path
	repeated []duplicate
}

// duplicate is a file for a kernel that an earlier file is for.
type duplicate struct {
	path, original string
	digest         [sha256.Size]byte
}

// job is a file that names a kernel.
type job struct {
	kernel layout.Kernel
	path   string
	// original is the path of an earlier file for the same kernel, or empty.
	original string
	load     func() ([]byte, error)
}

// admit decides by its path whether a file is looked at.
func (w *walk) admit(name string) (job, bool) {
	if why := suspicious(name); why != "" {
		w.skip(name, problemf(KindHostile, "%s", why))
		return job{}, false
	}
	if !isPacked(name) && !strings.HasSuffix(name, layout.RawSuffix) {
		return job{}, false // README and the like
	}
	k, err := layout.Parse(path.Clean(name))
	if err != nil {
		w.skip(name, &ContentError{KindMisplaced, err})
		return job{}, false
	}
	if !w.opts.Filter.admits(k) {
		w.count(&w.report.Filtered)
		return job{}, false
	}
	j := job{kernel: k, path: name, original: w.first[k]}
	if j.original == "" {
		w.first[k] = name
	}
	return j, true
}

// isPacked tells a tar.xz from raw BTF by its name.
func isPacked(name string) bool { return strings.HasSuffix(name, layout.ArchiveSuffix) }

// suspicious says what about a path no honest archive has.
func suspicious(name string) string {
	switch {
	case path.IsAbs(name):
		return "the name is absolute"
	case slices.Contains(strings.Split(name, "/"), ".."):
		return `the name has ".."`
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "the name has unprintable characters"
	}
	return ""
}

// do is what a worker does with a job. Its error ends the walk.
func (w *walk) do(ctx context.Context, j job) error {
	err := w.doEntry(ctx, j)
	var content *ContentError
	switch {
	case errors.As(err, &content):
		w.skip(j.path, err)
	case err != nil:
		return err
	case j.original == "":
		w.count(&w.report.Entries)
	}
	w.advance()
	return nil
}

func (w *walk) doEntry(ctx context.Context, j job) error {
	stored, err := j.load()
	if err != nil {
		return err
	}
	digest := sha256.Sum256(stored)
	w.remember(j, digest)
	if j.original != "" {
		return nil
	}
	if len(stored) == 0 {
		return problemf(KindEmpty, "the file has no bytes")
	}
	return w.visit(ctx, &Entry{
		Kernel: j.kernel, Path: j.path, Digest: digest, Size: int64(len(stored)),
		stored: stored, dec: w.dec,
	})
}

// remember keeps what it takes to compare duplicates in the end.
func (w *walk) remember(j job, digest [sha256.Size]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if j.original == "" {
		w.digests[j.path] = digest
		return
	}
	w.repeated = append(w.repeated, duplicate{j.path, j.original, digest})
}

// limit is the size that a file may have.
func (w *walk) limit(name string) int64 {
	if isPacked(name) {
		return w.opts.MaxPacked
	}
	return w.opts.MaxRaw
}

func (w *walk) skip(name string, err error) {
	p := Problem{Path: printable(name, maxShown), Kind: KindUnreadable, Reason: printable(err.Error(), 4*maxShown)}
	var content *ContentError
	if errors.As(err, &content) {
		p.Kind = content.Kind
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report.Skipped = append(w.report.Skipped, p)
}

func (w *walk) count(n *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
}

func (w *walk) advance() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.Done++
	if w.opts.Progress != nil {
		w.opts.Progress(w.progress)
	}
}

// finish names the repeated files, which can be compared only now, and sorts.
func (w *walk) finish() Report {
	for _, d := range w.repeated {
		content := "other"
		if original, ok := w.digests[d.original]; ok && original == d.digest {
			content = "the same"
		}
		w.skip(d.path, problemf(KindDuplicate, "%s is for the same kernel and comes first; this file has %s content",
			printable(d.original, maxShown), content))
	}
	w.repeated = nil
	slices.SortFunc(w.report.Skipped, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return w.report
}
