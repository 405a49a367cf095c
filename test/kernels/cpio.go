// SPDX-License-Identifier: Apache-2.0

package main

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
	cpioTypeMask = 0o170000
	cpioDir      = 0o040000
	cpioFile     = 0o100000
	cpioSymlink  = 0o120000
	cpioChar     = 0o020000
)

// cpioWriter writes the "newc" archive the kernel unpacks as its first root file
// system. Parent directories are added as needed, everything belongs to root,
// and the same input gives the same bytes. The first error sticks and is
// returned by close.
type cpioWriter struct {
	w     *bufio.Writer
	off   int64
	inode uint32
	dirs  map[string]bool
	err   error
}

func newCPIOWriter(w io.Writer) *cpioWriter {
	return &cpioWriter{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{"": true}}
}

// cpioEntry is the part of a header that differs.
type cpioEntry struct {
	name         string
	mode         uint32
	size         int64
	major, minor uint32
}

// dir adds a directory and its parents.
func (c *cpioWriter) dir(name string) {
	name = cpioName(name)
	if c.dirs[name] {
		return
	}
	c.dirs[name] = true
	c.entry(cpioEntry{name: name, mode: cpioDir | 0o755}, nil)
}

// file adds a file of exactly size bytes.
func (c *cpioWriter) file(name string, perm uint32, size int64, content io.Reader) {
	c.entry(cpioEntry{name: name, mode: cpioFile | perm, size: size}, content)
}

func (c *cpioWriter) symlink(name, target string) {
	c.entry(cpioEntry{name: name, mode: cpioSymlink | 0o777, size: int64(len(target))}, strings.NewReader(target))
}

func (c *cpioWriter) charDevice(name string, perm, major, minor uint32) {
	c.entry(cpioEntry{name: name, mode: cpioChar | perm, major: major, minor: minor}, nil)
}

// close writes the end of the archive.
func (c *cpioWriter) close() error {
	c.header(cpioEntry{name: "TRAILER!!!"})
	if err := c.w.Flush(); c.err == nil {
		c.err = err
	}
	return c.err
}

func (c *cpioWriter) entry(e cpioEntry, content io.Reader) {
	e.name = cpioName(e.name)
	c.dir(path.Dir(e.name))
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
func (c *cpioWriter) header(e cpioEntry) {
	links := 1
	if e.mode&cpioTypeMask == cpioDir {
		links = 2
	}
	c.write(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, e.mode, 0, 0, links, 0, e.size, 0, 0, e.major, e.minor, len(e.name)+1, 0, e.name))
	c.pad()
}

// pad aligns to four bytes, as every header and every content must be.
func (c *cpioWriter) pad() {
	c.write("\x00\x00\x00"[:(4-c.off%4)%4])
}

func (c *cpioWriter) write(s string) {
	if c.err != nil {
		return
	}
	n, err := c.w.WriteString(s)
	c.off += int64(n)
	c.err = err
}

// cpioName is relative to the root; the root is empty.
func cpioName(name string) string {
	return strings.TrimPrefix(path.Join("/", name), "/")
}
