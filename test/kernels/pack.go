// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
)

// releaseOf returns what uname -r prints under a kernel. It is in the banner that
// every kernel prints first.
func releaseOf(image []byte) (string, error) {
	const banner = "Linux version "
	for rest := image; ; {
		i := bytes.Index(rest, []byte(banner))
		if i < 0 {
			return "", errors.New("the kernel does not say its version")
		}
		rest = rest[i+len(banner):]
		// The banner also occurs as a format.
		if len(rest) == 0 || rest[0] < '0' || rest[0] > '9' {
			continue
		}
		if end := bytes.IndexByte(rest[:min(len(rest), 128)], ' '); end > 0 {
			return string(rest[:end]), nil
		}
	}
}

// packBTF writes BTF as BTFHub's archive has it: the only file in a tar.xz. The
// same BTF makes the same bytes. It returns the size of the file.
func packBTF(ctx context.Context, release string, btf []byte, file string) (int64, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: release + ".btf", Mode: 0o644, Size: int64(len(btf)), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return 0, err
	}
	_, err := w.Write(btf)
	if err := errors.Join(err, w.Close()); err != nil {
		return 0, err
	}

	cmd, err := command(ctx, "xz-utils", "xz", "-6", "-T1", "-c")
	if err != nil {
		return 0, err
	}
	cmd.Stdin = &archive
	packed, err := output(cmd)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return 0, err
	}
	return int64(len(packed)), writeAtomically(file, packed)
}
