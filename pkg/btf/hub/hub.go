// SPDX-License-Identifier: Apache-2.0

// Package hub reads and makes archives of kernels' type information (BTF) in the
// layout of BTFHub's archive:
//
//	<distro>/<release>/<arch>/<uname -r>.btf.tar.xz
//
// [Walk] visits all kernels of an archive, which may be a directory, a git
// checkout or a tar file, with as many workers as there are cores. An archive is
// taken to be hostile: everything in it is bounded, nothing outside it is read,
// nothing is written, and an entry that can't be used is named in the [Report]
// while the walk goes on. [Collect] makes entries out of kernel packages and
// images.
//
// It hands out raw BTF with a sane header. It does not look at the types, does
// not tailor them, and does not know which kernel is running.
package hub

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"nodegadget.dev/pkg/btf/layout"
)

// Defaults of [Options], in bytes. The full types of a kernel are below 10 MiB,
// and below 2 MiB when packed. A worker holds at most one packed file, its raw
// content and the decoder's dictionary: together 56 MiB.
const (
	DefaultMaxPacked = 8 << 20
	DefaultMaxRaw    = 16 << 20
	maxDictionary    = 32 << 20 // of xz; its default level has 8 MiB
)

// maxFiles bounds the files in an archive. BTFHub's has about 4,100.
const maxFiles = 1 << 17

// Options say what of an archive to visit, and how. The zero value visits all.
type Options struct {
	Filter Filter
	// Workers is how many entries are visited at once; 0 stands for GOMAXPROCS.
	Workers int
	// MaxPacked bounds a file as it is stored, MaxRaw the BTF inside, in bytes; 0
	// stands for the defaults.
	MaxPacked, MaxRaw int64
	// Stdin is what the path "-" reads. A read from it that blocks also delays the
	// end of a canceled walk.
	Stdin io.Reader
	// Progress is called after each entry, by one worker at a time; nil for none.
	Progress func(Progress)
}

func (o Options) withDefaults() (Options, error) {
	if o.Workers < 0 || o.MaxPacked < 0 || o.MaxRaw < 0 {
		return o, errors.New("options of an archive's walk: workers and sizes can't be negative")
	}
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.MaxPacked = cmp.Or(o.MaxPacked, DefaultMaxPacked)
	o.MaxRaw = cmp.Or(o.MaxRaw, DefaultMaxRaw)
	var err error
	o.Filter, err = o.Filter.checked()
	return o, err
}

// Filter picks kernels. Each list holds names or shell patterns such as "1[68].*"
// (see [path.Match]); an empty list admits all.
type Filter struct {
	Distros, Releases, Arches []string
}

// checked returns the filter with architectures as the archive names them.
func (f Filter) checked() (Filter, error) {
	for _, pattern := range slices.Concat(f.Distros, f.Releases, f.Arches) {
		if _, err := path.Match(pattern, ""); err != nil {
			return f, fmt.Errorf("filter %q: want a name or a shell pattern: %w", pattern, err)
		}
	}
	f.Arches = slices.Clone(f.Arches)
	for i, name := range f.Arches {
		if arch, err := layout.Arch(name); err == nil {
			f.Arches[i] = arch
		}
	}
	return f, nil
}

func (f Filter) admits(k layout.Kernel) bool {
	return matches(f.Distros, k.Distro) && matches(f.Releases, k.Release) && matches(f.Arches, k.Arch)
}

func matches(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// Progress is how far a walk is.
type Progress struct {
	Done  int // entries visited or skipped
	Total int // entries to visit; 0 while unknown, as in a tar file
}

// Kind says why an entry is skipped.
type Kind string

// The kinds.
const (
	KindBroken      Kind = "broken"      // can't be decoded, or isn't BTF
	KindEmpty       Kind = "empty"       // has no bytes, no file or no types inside
	KindDuplicate   Kind = "duplicate"   // an earlier file is for the same kernel
	KindOversized   Kind = "oversized"   // beyond a bound of Options
	KindHostile     Kind = "hostile"     // what no honest archive has: links out of it, "..", devices
	KindMisplaced   Kind = "misplaced"   // the path does not name a kernel
	KindUnsupported Kind = "unsupported" // honest, but can't be read here
	KindUnreadable  Kind = "unreadable"  // the file system refuses it
)

// ContentError says that an entry's content is of no use. A visit function that
// returns one, wrapped or not, has its entry skipped and named in the report.
type ContentError struct {
	Kind Kind
	Err  error
}

// Error returns the reason.
func (e *ContentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ContentError) Unwrap() error { return e.Err }

// Broken makes a [ContentError] of kind broken.
func Broken(err error) error { return &ContentError{KindBroken, err} }

func problemf(kind Kind, format string, args ...any) error {
	return &ContentError{kind, fmt.Errorf(format, args...)}
}

// Problem is an entry that was skipped.
type Problem struct {
	// Path is the file in the archive. Path and Reason are quoted as in Go if they
	// have anything unprintable, and cut after 256 and 1,024 characters.
	Path   string `json:"path"`
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"`
}

// String is one line.
func (p Problem) String() string { return fmt.Sprintf("%s: %s: %s", p.Path, p.Kind, p.Reason) }

// maxShown is how many characters of a path are shown.
const maxShown = 256

// printable returns at most limit characters of text, quoted as in Go if there is
// anything unprintable among them.
func printable(text string, limit int) string {
	text = fmt.Sprintf("%.*s", limit, text)
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
		return strconv.Quote(text)
	}
	return text
}

// Report is the outcome of a walk. It is the same for the same archive and
// filter, whatever the number of workers.
type Report struct {
	// Entries is how many were visited without an error.
	Entries int `json:"entries"`
	// Filtered is how many kernels the filter left out.
	Filtered int `json:"filtered"`
	// Aliases is how many links lead from one folder of the archive to another, as
	// ubuntu/focal does to ubuntu/20.04. They are not followed.
	Aliases int `json:"aliases"`
	// Skipped is what can't be used, sorted by path.
	Skipped []Problem `json:"skipped,omitempty"`
}
