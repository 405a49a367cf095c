// SPDX-License-Identifier: Apache-2.0

// Package rootfile writes files below a root that links can't lead out of: an
// archive's directory, a host's file system. It doesn't read them.
package rootfile

import (
	"crypto/rand"
	"os"
	"path"
)

// Replace makes a file with this content and mode 0644 appear in its place, whole
// or not at all, instead of what was there. Its directory must be there.
func Replace(root *os.Root, name string, content []byte) (err error) {
	temporary := path.Join(path.Dir(name), ".new-"+rand.Text())
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temporary) // what went wrong before matters more
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return root.Rename(temporary, name)
}
