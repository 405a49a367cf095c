// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"nodegadget.dev/pkg/btf/hub/internal/unpack"
	"nodegadget.dev/pkg/btf/layout"
)

// tarFeed feeds from a tar file while it is read. One file is held besides those
// that the workers have.
func (w *walk) tarFeed(r io.Reader) func(context.Context, func(job) bool) error {
	return func(ctx context.Context, emit func(job) bool) error {
		stream, _, err := unpack.Reader(contextReader{ctx, r})
		if err != nil {
			return err
		}
		defer stream.Close()
		end := &zeroTail{r: stream}
		files := tar.NewReader(end)
		for seen := 0; ; seen++ {
			header, err := files.Next()
			if errors.Is(err, io.EOF) && end.zeros < tarEnd {
				err = io.ErrUnexpectedEOF // cut off between two files
			}
			if errors.Is(err, io.EOF) {
				// Checks a compressor's checksum, and keeps a pipe's writer content.
				_, err := io.Copy(io.Discard, io.LimitReader(end, tarPadding))
				return err
			}
			if err != nil {
				return fmt.Errorf("file %d of the tar: %w", seen+1, err)
			}
			if seen == maxFiles {
				return errTooMany
			}
			if more, err := w.member(header, files, emit); err != nil || !more {
				return err
			}
		}
	}
}

// tarEnd is how many zero bytes end a tar, at least.
const tarEnd = 1024

// tarPadding is how much is read behind the end, in bytes.
const tarPadding = 1 << 20

// zeroTail counts the zero bytes at the end of what was read.
type zeroTail struct {
	r     io.Reader
	zeros int
}

func (z *zeroTail) Read(b []byte) (int, error) {
	n, err := z.r.Read(b)
	rest := len(bytes.TrimRight(b[:n], "\x00"))
	if rest > 0 {
		z.zeros = 0
	}
	z.zeros += n - rest
	return n, err
}

// member sorts one member, and reports whether there is someone left to take
// further ones. The error is one of reading the tar.
func (w *walk) member(header *tar.Header, content io.Reader, emit func(job) bool) (bool, error) {
	name := header.Name
	switch header.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader: // the latter is git's
		return true, nil
	case tar.TypeSymlink:
		w.tarLink(name, header.Linkname)
		return true, nil
	case tar.TypeReg, tar.TypeGNUSparse:
	default:
		w.skip(name, problemf(KindHostile, "a %s is no part of an archive", tarType(header.Typeflag)))
		return true, nil
	}
	if hidden(name) {
		return true, nil
	}
	j, ok := w.admit(name)
	if !ok {
		return true, nil
	}
	if limit := w.limit(name); header.Size > limit {
		j.load = func() ([]byte, error) { return nil, errOversized(header.Size, limit) }
		return emit(j), nil
	}
	stored, err := readSized(content, header.Size)
	if err != nil {
		return false, fmt.Errorf("%.200q: %w", name, err)
	}
	j.load = func() ([]byte, error) { return stored, nil }
	return emit(j), nil
}

// hidden reports whether a path leads through a folder that a directory's walk
// leaves out.
func hidden(name string) bool {
	for dir := range strings.SplitSeq(path.Dir(name), "/") {
		if strings.HasPrefix(dir, ".") && dir != "." && dir != ".." {
			return true
		}
	}
	return false
}

// tarLink sorts symbolic links by name alone: what they lead to may come later.
func (w *walk) tarLink(name, target string) {
	switch {
	case suspicious(name) != "" || leadsOut(name, target):
		w.skip(name, problemf(KindHostile, "a symbolic link to %.200q, which is not in the archive", target))
	case isPacked(name) || strings.HasSuffix(name, layout.RawSuffix):
		w.skip(name, errFileLink(target))
	default:
		w.count(&w.report.Aliases)
	}
}

// tarType names a member's type for messages.
func tarType(flag byte) string {
	switch flag {
	case tar.TypeLink:
		return "hard link"
	case tar.TypeSymlink:
		return "symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeFifo:
		return "fifo"
	case tar.TypeDir:
		return "folder"
	}
	return fmt.Sprintf("member of type %q", flag)
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
