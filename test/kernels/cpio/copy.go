// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// CopyTree adds a file of this machine, or a directory with all that is in it.
func (c *Writer) CopyTree(name, host string) error {
	root, err := filepath.EvalSymlinks(host)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		inArchive := path.Join(name, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			c.Dir(inArchive)
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			if err == nil {
				c.Symlink(inArchive, target)
			}
			return err
		default:
			return c.Copy(inArchive, file, 0)
		}
	})
}

// Copy adds a file of this machine, with its own permissions if perm is 0.
func (c *Writer) Copy(name, host string, perm fs.FileMode) error {
	f, err := os.Open(host)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", host)
	}
	if perm == 0 {
		perm = info.Mode().Perm()
	}
	c.File(name, uint32(perm), info.Size(), f)
	return nil
}
