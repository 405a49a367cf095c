// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	xz "github.com/mikelolasagasti/xz"
)

// tarSlack is how much besides the BTF file a tar may have: headers and padding,
// in bytes. The usual blocking factor makes it up to 10 KiB.
const tarSlack = 64 << 10

// decoder decodes packed entries. Several goroutines may use it.
type decoder struct {
	maxRaw int64
	// streams keeps xz decoders, of which each holds a dictionary of some MiB.
	streams sync.Pool
}

// unpack returns the BTF file in a tar.xz.
func (d *decoder) unpack(ctx context.Context, packed []byte) ([]byte, error) {
	stream, err := d.stream(contextReader{ctx, bytes.NewReader(packed)})
	if err != nil {
		return nil, d.classify(ctx, err)
	}
	defer d.streams.Put(stream)
	bounded := &io.LimitedReader{R: stream, N: d.maxRaw + tarSlack}
	raw, err := d.single(bounded)
	if err == nil {
		// Reading to the end checks the checksum, and that there is an end.
		_, err = io.Copy(io.Discard, bounded)
	}
	if bounded.N == 0 {
		return nil, problemf(KindOversized, "it unpacks to more than %d bytes", d.maxRaw)
	}
	if err != nil {
		return nil, d.classify(ctx, err)
	}
	if err := checkBTF(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

func (d *decoder) stream(r io.Reader) (*xz.Reader, error) {
	if old, ok := d.streams.Get().(*xz.Reader); ok {
		return old, old.Reset(r)
	}
	return xz.NewReader(r, maxDictionary)
}

// single returns the one file of a tar.
func (d *decoder) single(r io.Reader) ([]byte, error) {
	var raw []byte
	for files := tar.NewReader(r); ; {
		header, err := files.Next()
		switch {
		case errors.Is(err, io.EOF) && raw == nil:
			return nil, problemf(KindEmpty, "the tar has no file")
		case errors.Is(err, io.EOF):
			return raw, nil
		case err != nil:
			return nil, err
		case suspicious(header.Name) != "":
			return nil, problemf(KindHostile, "file %.200q in the tar: %s", header.Name, suspicious(header.Name))
		case header.Typeflag == tar.TypeDir || header.Typeflag == tar.TypeXGlobalHeader:
			continue
		case header.Typeflag != tar.TypeReg:
			return nil, problemf(KindHostile, "a %s in the tar, want one file", tarType(header.Typeflag))
		case raw != nil:
			return nil, problemf(KindHostile, "more than one file in the tar")
		case header.Size == 0:
			return nil, problemf(KindEmpty, "the file in the tar has no bytes")
		case header.Size > d.maxRaw:
			return nil, problemf(KindOversized, "the file in the tar has %d bytes, want at most %d", header.Size, d.maxRaw)
		}
		raw = make([]byte, header.Size)
		if _, err := io.ReadFull(files, raw); err != nil {
			return nil, err
		}
	}
}

// classify turns what the decoders say into a ContentError. The context's end is
// not the content's fault.
func (d *decoder) classify(ctx context.Context, err error) error {
	var content *ContentError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &content):
		return err
	case errors.Is(err, xz.ErrMemlimit):
		return problemf(KindOversized, "xz wants a dictionary of more than %d MiB; pack it with a level up to 8", maxDictionary>>20)
	case errors.Is(err, xz.ErrUnsupportedCheck), errors.Is(err, xz.ErrOptions):
		return &ContentError{KindUnsupported, err}
	}
	return problemf(KindBroken, "unpacking tar.xz: %w", err)
}
