// SPDX-License-Identifier: Apache-2.0

package service

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"

	"github.com/ulikunitz/xz"

	"nodegadget.dev/pkg/btf/layout"
)

// encode packs raw BTF as an archive has it: a tar.xz with one file.
func encode(k layout.Kernel, raw []byte) ([]byte, error) {
	var packed bytes.Buffer
	compressor, err := xz.NewWriter(&packed)
	if err != nil {
		return nil, fmt.Errorf("packing %s: %w", k, err)
	}
	files := tar.NewWriter(compressor)
	err = files.WriteHeader(&tar.Header{Name: k.Uname + layout.RawSuffix, Mode: 0o644, Size: int64(len(raw)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = files.Write(raw)
	}
	if err := errors.Join(err, files.Close(), compressor.Close()); err != nil {
		return nil, fmt.Errorf("packing %s: %w", k, err)
	}
	return packed.Bytes(), nil
}
