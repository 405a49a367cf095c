// SPDX-License-Identifier: Apache-2.0

// Package cpio writes the archives that a kernel unpacks as its first root file system.
package cpio

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// File types of the mode field.
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeFile    = 0o100000
	typeSymlink = 0o120000
	typeChar    = 0o020000
)

// Writer writes an archive in the "newc" format. Parent directories are added as needed, everything belongs to root,
// and the same input gives the same bytes. The first error sticks and is
// returned by Close.
type Writer struct {
	w     *bufio.Writer
	off   int64
	inode uint32
	dirs  map[string]bool
	err   error
}

// NewWriter returns a writer that is to be closed.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{"": true}}
}

// entry is the part of a header that differs.
type entry struct {
	name         string
	mode         uint32
	size         int64
	major, minor uint32
}

// Dir adds a directory and its parents.
func (c *Writer) Dir(name string) {
	name = clean(name)
	if c.dirs[name] {
		return
	}
	c.dirs[name] = true
	c.add(entry{name: name, mode: typeDir | 0o755}, nil)
}

// File adds a file of exactly size bytes.
func (c *Writer) File(name string, perm uint32, size int64, content io.Reader) {
	c.add(entry{name: name, mode: typeFile | perm, size: size}, content)
}

// Symlink adds a symbolic link.
func (c *Writer) Symlink(name, target string) {
	c.add(entry{name: name, mode: typeSymlink | 0o777, size: int64(len(target))}, strings.NewReader(target))
}

// CharDevice adds a character device.
func (c *Writer) CharDevice(name string, perm, major, minor uint32) {
	c.add(entry{name: name, mode: typeChar | perm, major: major, minor: minor}, nil)
}

// Close writes the end of the archive.
func (c *Writer) Close() error {
	c.header(entry{name: "TRAILER!!!"})
	if err := c.w.Flush(); c.err == nil {
		c.err = err
	}
	return c.err
}

func (c *Writer) add(e entry, content io.Reader) {
	e.name = clean(e.name)
	c.Dir(path.Dir(e.name))
	if c.err == nil && e.size > math.MaxUint32 {
		c.err = fmt.Errorf("%s: %d bytes do not fit into an initramfs", e.name, e.size)
	}
	c.inode++
	c.header(e)
	if content == nil || c.err != nil {
		return
	}
	n, err := io.Copy(c.w, io.LimitReader(content, e.size))
	c.off += n
	if err == nil && n != e.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		c.err = fmt.Errorf("%s: %w", e.name, err)
	}
	c.pad()
}

// header writes thirteen numbers of eight hexadecimal digits and the name.
func (c *Writer) header(e entry) {
	links := 1
	if e.mode&typeMask == typeDir {
		links = 2
	}
	c.write(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, e.mode, 0, 0, links, 0, e.size, 0, 0, e.major, e.minor, len(e.name)+1, 0, e.name))
	c.pad()
}

// pad aligns to four bytes, as every header and every content must be.
func (c *Writer) pad() {
	c.write("\x00\x00\x00"[:(4-c.off%4)%4])
}

func (c *Writer) write(s string) {
	if c.err != nil {
		return
	}
	n, err := c.w.WriteString(s)
	c.off += int64(n)
	c.err = err
}

// clean is relative to the root; the root is empty.
func clean(name string) string {
	return strings.TrimPrefix(path.Join("/", name), "/")
}
