// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"nodegadget.dev/pkg/btf/layout"
)

// dirFeed feeds from a directory. All access goes through root, which no link
// leads out of.
func (w *walk) dirFeed(root *os.Root) func(context.Context, func(job) bool) error {
	return func(ctx context.Context, emit func(job) bool) error {
		jobs, err := w.list(ctx, root)
		if err != nil {
			return err
		}
		w.progress.Total = len(jobs) // no worker has a job yet
		for _, j := range jobs {
			if !emit(j) {
				break
			}
		}
		return nil
	}
}

// list finds the files that name a kernel, in the order of their names.
func (w *walk) list(ctx context.Context, root *os.Root) ([]job, error) {
	var jobs []job
	seen := 0
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && name == "." {
			return err
		}
		if err != nil {
			w.skip(name, err)
			return nil
		}
		if seen++; seen > maxFiles {
			return errTooMany
		}
		switch {
		case d.IsDir():
			if name != "." && strings.HasPrefix(d.Name(), ".") { // .git, .github
				return fs.SkipDir
			}
		case d.Type()&fs.ModeSymlink != 0:
			w.link(root, name)
		case !d.Type().IsRegular():
			w.skip(name, problemf(KindHostile, "a %s is no part of an archive", describe(d.Type())))
		default:
			if j, ok := w.admit(name); ok {
				j.load = func() ([]byte, error) { return load(root, name, w.limit(name)) }
				jobs = append(jobs, j)
			}
		}
		return nil
	})
	return jobs, err
}

var errTooMany = fmt.Errorf("more than %d files: want distro/release/arch/kernel%s and little else", maxFiles, layout.ArchiveSuffix)

// link sorts symbolic links: to a folder of the archive they are other names of
// it, to anywhere outside they are hostile.
func (w *walk) link(root *os.Root, name string) {
	target, err := root.Readlink(name)
	if err != nil {
		w.skip(name, err)
		return
	}
	info, err := root.Stat(name)
	kernel := isPacked(name) || strings.HasSuffix(name, layout.RawSuffix)
	switch {
	case err == nil && info.IsDir():
		w.count(&w.report.Aliases)
	case leadsOut(name, target) || err != nil && !errors.Is(err, fs.ErrNotExist):
		w.skip(name, problemf(KindHostile, "a symbolic link to %.200q, which is not in the archive", target))
	case kernel:
		w.skip(name, errFileLink(target))
	}
}

func errFileLink(target string) error {
	return problemf(KindUnsupported, "a symbolic link to %.200q: links to files are not followed; put a copy there", target)
}

// leadsOut reports whether a link's target is outside of the archive.
func leadsOut(name, target string) bool {
	if path.IsAbs(target) {
		return true
	}
	end := path.Join(path.Dir(name), target)
	return end == ".." || strings.HasPrefix(end, "../")
}

// describe names a file's type for messages.
func describe(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "fifo"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}
