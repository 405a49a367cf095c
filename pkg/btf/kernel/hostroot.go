// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// hostRoot is the node's file system, in which nothing leads out of it: symbolic
// links are resolved as they are for a process whose root it is.
type hostRoot struct {
	dir  *os.Root
	path string
}

func openRoot(dir string) (*hostRoot, error) {
	if dir == "" {
		dir = "/"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the host's root: %w", err)
	}
	return &hostRoot{dir: root, path: dir}, nil
}

func (r *hostRoot) close() { r.dir.Close() }

// full is the path of name for people.
func (r *hostRoot) full(name string) string { return path.Join(r.path, name) }

// resolve follows links, absolute ones from this root. os.Root refuses those,
// and makes sure that nothing escapes if links change meanwhile.
func (r *hostRoot) resolve(name string) (string, error) {
	pending := strings.Split(name, "/")
	var done []string
	for links := 0; len(pending) > 0; {
		part := pending[0]
		pending = pending[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, len(done)-1)]
			continue
		}
		done = append(done, part)
		target, err := r.dir.Readlink(path.Join(done...))
		if err != nil {
			continue // Not a link, or not there; opening it tells.
		}
		if links++; links > maxLinks {
			return "", syscall.ELOOP
		}
		done = done[:len(done)-1]
		if path.IsAbs(target) {
			done = nil
		}
		pending = append(strings.Split(target, "/"), pending...)
	}
	return path.Join(append([]string{"."}, done...)...), nil
}

// open opens a regular file of at most limit bytes.
func (r *hostRoot) open(name string, limit int64) (*os.File, error) {
	resolved, err := r.resolve(name)
	if err != nil {
		return nil, err
	}
	// Opening a pipe must not wait for a writer.
	file, err := r.dir.OpenFile(resolved, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := checkRegular(file, limit); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// read reads a whole regular file of at most limit bytes.
func (r *hostRoot) read(name string, limit int64) ([]byte, error) {
	file, err := r.open(name, limit)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

func checkRegular(file *os.File, limit int64) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return fmt.Errorf("not a regular file of at most %d bytes", limit)
	}
	return nil
}
