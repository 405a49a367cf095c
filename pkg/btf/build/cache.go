// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"nodegadget.dev/pkg/btf/tailor"
)

// cacheVersion must change when the same types and objects give other bytes than
// before; TestCacheVersion tells.
const cacheVersion = "1"

// cache keeps tailored BTF by what it was made of: the file in the archive and
// the objects' relocations. A file of it is the SHA-256 of the content and the
// content.
type cache struct {
	dir   string
	needs tailor.Digest
}

func (c cache) path(source [sha256.Size]byte) string {
	name := hex.EncodeToString(source[:])
	return filepath.Join(c.dir, "v"+cacheVersion, c.needs.String(), name[:2], name)
}

// get returns nothing rather than something damaged.
func (c cache) get(source [sha256.Size]byte) ([]byte, bool) {
	if c.dir == "" {
		return nil, false
	}
	data, err := os.ReadFile(c.path(source))
	if err != nil || len(data) <= sha256.Size {
		return nil, false
	}
	content := data[sha256.Size:]
	return content, sha256.Sum256(content) == [sha256.Size]byte(data)
}

func (c cache) put(source [sha256.Size]byte, content []byte) error {
	if c.dir == "" {
		return nil
	}
	path := c.path(source)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keeping tailored BTF: %w", err)
	}
	sum := sha256.Sum256(content)
	if err := renameio.WriteFile(path, append(sum[:], content...), 0o644); err != nil {
		return fmt.Errorf("keeping tailored BTF: %w", err)
	}
	return nil
}
