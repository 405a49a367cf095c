// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/ulikunitz/xz"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/rootfile"
)

// WriteEntry writes a kernel's raw BTF to its place in the archive that the
// directory holds or is to hold. The same BTF always makes the same file, and the
// file is there whole or not at all. An entry that has the same types already is
// left alone; one with other types is an error, which is [fs.ErrExist].
func WriteEntry(ctx context.Context, dir string, k layout.Kernel, raw []byte) error {
	root, err := openOut(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = writeEntry(ctx, root, k, raw, false)
	return err
}

// openOut opens the directory of an archive, which is made if need be.
func openOut(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("archive to write: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("archive to write: %w", err)
	}
	return root, nil
}

// writeEntry reports whether anything had to be written.
func writeEntry(ctx context.Context, root *os.Root, k layout.Kernel, raw []byte, force bool) (bool, error) {
	if err := k.Validate(); err != nil {
		return false, err
	}
	if err := checkBTF(raw); err != nil {
		return false, fmt.Errorf("kernel %s: %w", k, err)
	}
	if len(raw) > DefaultMaxRaw {
		return false, fmt.Errorf("kernel %s: BTF of %d bytes, want at most %d", k, len(raw), DefaultMaxRaw)
	}
	if !force {
		same, err := holds(ctx, root, k, raw)
		if same || err != nil {
			return false, err
		}
	}
	packed, err := Pack(k, raw)
	if err != nil {
		return false, err
	}
	if err := root.MkdirAll(path.Dir(k.File()), 0o755); err != nil {
		return false, fmt.Errorf("kernel %s: %w", k, err)
	}
	if err := rootfile.Replace(root, k.File(), packed); err != nil {
		return false, fmt.Errorf("kernel %s: %w", k, err)
	}
	return true, nil
}

// holds reports whether the archive has these types for the kernel. That it has
// others is an error.
func holds(ctx context.Context, root *os.Root, k layout.Kernel, raw []byte) (bool, error) {
	stored, err := load(root, k.File(), DefaultMaxPacked)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("kernel %s: %w", k, err)
	}
	old, err := (&decoder{maxRaw: DefaultMaxRaw}).unpack(ctx, stored)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err == nil && bytes.Equal(old, raw) {
		return true, nil
	}
	return false, fmt.Errorf("kernel %s: the archive's entry has other types; remove it, or ask to replace it (force): %w",
		k, fs.ErrExist)
}

// Pack returns a kernel's raw BTF as an archive stores it: a tar.xz with one file,
// without times and owners.
func Pack(k layout.Kernel, raw []byte) ([]byte, error) {
	packed, err := pack(k.Uname+layout.RawSuffix, raw)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: packing: %w", k, err)
	}
	return packed, nil
}

func pack(name string, raw []byte) ([]byte, error) {
	var packed bytes.Buffer
	compressor, err := xz.NewWriter(&packed)
	if err != nil {
		return nil, err
	}
	files := tar.NewWriter(compressor)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(raw)), Mode: 0o644, Format: tar.FormatUSTAR}
	if err := files.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := files.Write(raw); err != nil {
		return nil, err
	}
	if err := files.Close(); err != nil {
		return nil, err
	}
	if err := compressor.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
