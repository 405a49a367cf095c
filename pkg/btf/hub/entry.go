// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"nodegadget.dev/pkg/btf/layout"
)

// Entry is one kernel's file in an archive. Whoever keeps it keeps the file's
// content in memory.
type Entry struct {
	Kernel layout.Kernel
	// Path is the file's slash-separated path in the archive.
	Path string
	// Digest is the SHA-256 of the file as it is stored.
	Digest [sha256.Size]byte
	// Size is the length of the file as it is stored, in bytes.
	Size int64

	stored []byte
	dec    *decoder
}

// Stored returns the file as it is in the archive. The caller must not change it.
func (e *Entry) Stored() []byte { return e.stored }

// BTF decodes the file, in memory, and returns raw BTF with a sane header. Errors
// are [ContentError]s, or the context's.
func (e *Entry) BTF(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if isPacked(e.Path) {
		return e.dec.unpack(ctx, e.stored)
	}
	if err := checkBTF(e.stored); err != nil {
		return nil, err
	}
	return bytes.Clone(e.stored), nil
}

// Read returns one entry of an archive that is a directory, by the path that a
// walk gave it.
func Read(dir, file string, opts Options) (*Entry, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	k, err := layout.Parse(file)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	defer root.Close()
	w := walk{opts: opts}
	stored, err := load(root, file, w.limit(file))
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k, err)
	}
	return &Entry{
		Kernel: k, Path: file, Digest: sha256.Sum256(stored), Size: int64(len(stored)),
		stored: stored, dec: &decoder{maxRaw: opts.MaxRaw},
	}, nil
}

// load reads a regular file of at most limit bytes. It doesn't block on what
// took the file's place since it was listed.
func load(root *os.Root, name string, limit int64) ([]byte, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &ContentError{KindUnreadable, err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, &ContentError{KindUnreadable, err}
	}
	if !info.Mode().IsRegular() {
		return nil, problemf(KindHostile, "a %s is no part of an archive", describe(info.Mode()))
	}
	if info.Size() > limit {
		return nil, errOversized(info.Size(), limit)
	}
	b, err := readSized(file, info.Size())
	if err != nil {
		return nil, &ContentError{KindUnreadable, err}
	}
	return b, nil
}

func errOversized(size, limit int64) error {
	return problemf(KindOversized, "the file has %d bytes, want at most %d", size, limit)
}

// readSized reads exactly size bytes, which the caller has bounded.
func readSized(r io.Reader, size int64) ([]byte, error) {
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}
