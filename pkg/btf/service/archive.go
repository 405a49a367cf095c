// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"nodegadget.dev/pkg/btf/hub"
	"nodegadget.dev/pkg/btf/layout"
)

// maxFiles bounds the files in an archive's directory. BTFHub's has about 4,100.
const maxFiles = 1 << 17

// errUnknown says that an archive has no such kernel.
var errUnknown = errors.New("not in the archive")

// digest is a SHA-256: of raw BTF, unless said otherwise.
type digest [sha256.Size]byte

// Archive is a directory in BTFHub's layout, indexed by name. It is safe for
// concurrent use. Files are read when they are asked for, so that the directory
// may change or be replaced meanwhile. Links below it are not followed, neither to
// files nor to directories: BTFHub's code names (ubuntu/focal) are links to
// numbered releases.
type Archive struct {
	dir string

	mu    sync.RWMutex
	index index
	// raw has the digest of what is in a file, by the digest of the file.
	raw map[digest]digest
}

// index is what an archive has.
type index struct {
	kernels []layout.Kernel          // sorted
	paths   map[layout.Kernel]string // below the directory
}

// OpenArchive indexes the directory. Files whose names aren't a kernel's are
// passed over; of several for one kernel the first by name counts, as in pkg/btf/hub.
func OpenArchive(dir string) (*Archive, error) {
	a := &Archive{dir: dir, raw: map[digest]digest{}}
	if err := a.Refresh(); err != nil {
		return nil, err
	}
	return a, nil
}

// Refresh indexes the directory again. It reads directories only, no files: some
// milliseconds for all of BTFHub. On an error the index stays as it was.
func (a *Archive) Refresh() error {
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return fmt.Errorf("opening archive: %w", err)
	}
	defer root.Close()
	found, err := indexOf(root.FS())
	if err != nil {
		return fmt.Errorf("indexing archive %s: %w", a.dir, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.index = found
	// Files that are gone may have left digests. All are easily learnt again.
	if len(a.raw) > 2*len(found.kernels) {
		clear(a.raw)
	}
	return nil
}

func indexOf(files fs.FS) (index, error) {
	paths := map[layout.Kernel]string{}
	seen := 0
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if seen++; seen > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		if d.IsDir() {
			if name != "." && strings.HasPrefix(d.Name(), ".") { // .git, .github
				return fs.SkipDir
			}
			return nil
		}
		k, err := layout.Parse(name)
		if err != nil || !strings.HasSuffix(name, layout.ArchiveSuffix) || !d.Type().IsRegular() {
			return nil
		}
		if _, twice := paths[k]; !twice {
			paths[k] = name
		}
		return nil
	})
	return index{slices.SortedFunc(maps.Keys(paths), layout.Kernel.Compare), paths}, err
}

// Kernels are the archive's kernels, sorted. The slice must not be changed.
func (a *Archive) Kernels() []layout.Kernel {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.index.kernels
}

func (a *Archive) has(k layout.Kernel) bool {
	_, found := a.path(k)
	return found
}

func (a *Archive) path(k layout.Kernel) (string, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	path, found := a.index.paths[k]
	return path, found
}

// entry reads a kernel's file as it is stored.
func (a *Archive) entry(k layout.Kernel) (*hub.Entry, error) {
	path, found := a.path(k)
	if !found {
		return nil, fmt.Errorf("kernel %s: %w", k, errUnknown)
	}
	entry, err := hub.Read(a.dir, path, hub.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kernel %s: %w any more", k, errUnknown)
	}
	return entry, err
}

// btf decodes an entry.
func (a *Archive) btf(ctx context.Context, entry *hub.Entry) ([]byte, digest, error) {
	raw, err := entry.BTF(ctx)
	if err != nil {
		return nil, digest{}, fmt.Errorf("kernel %s: %w", entry.Kernel, err)
	}
	d := digest(sha256.Sum256(raw))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raw[entry.Digest] = d
	return raw, d, nil
}

// digest returns the digest of an entry's raw BTF if it was decoded before.
func (a *Archive) digest(entry *hub.Entry) (d digest, known bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	d, known = a.raw[entry.Digest]
	return d, known
}
