// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"time"
)

// leftName is that of a file of a session, whose UID is in it.
var leftName = regexp.MustCompile(`-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl(?:\.[0-9]+)?$`)

// left is a file of a session that is no more.
type left struct {
	path string
	size int64
	last time.Time
}

// Prune removes files below dir of sessions that are no more, the oldest first, until
// those that are left have at most so many bytes. What isn't a session's file isn't
// touched. It returns the number of bytes that were removed.
func Prune(dir string, exists func(uid string) bool, most int64) (removed int64, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking for files of sessions that are no more: %w", err)
	}
	defer root.Close()
	files, sum, err := leftFiles(root, exists)
	if err != nil {
		return 0, fmt.Errorf("looking for files of sessions that are no more: %w", err)
	}
	for _, f := range files {
		if sum-removed <= most {
			break
		}
		if err := root.Remove(f.path); err != nil {
			return removed, fmt.Errorf("removing a file of a session that is no more: %w", err)
		}
		removed += f.size
	}
	return removed, nil
}

// leftFiles are the files of sessions that are no more, oldest first, and their size.
func leftFiles(root *os.Root, exists func(uid string) bool) (files []left, sum int64, err error) {
	dirs, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, 0, err
	}
	for _, dir := range dirs {
		if !dir.IsDir() {
			continue
		}
		entries, err := fs.ReadDir(root.FS(), dir.Name())
		if err != nil {
			return nil, 0, err
		}
		for _, entry := range entries {
			match := leftName.FindStringSubmatch(entry.Name())
			if match == nil || !entry.Type().IsRegular() || exists(match[1]) {
				continue
			}
			info, err := entry.Info()
			if err != nil {
				continue // It has gone meanwhile.
			}
			files = append(files, left{path.Join(dir.Name(), entry.Name()), info.Size(), info.ModTime()})
			sum += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b left) int { return cmp.Or(a.last.Compare(b.last), cmp.Compare(a.path, b.path)) })
	return files, sum, nil
}
