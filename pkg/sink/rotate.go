// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// mostFiles is the largest number of files that a session can ask for.
const mostFiles = 100

// rotation writes lines to a file. One that is full becomes <name>.1, which becomes
// <name>.2, and so on; the last is removed. So there are never more files or bytes than
// wanted. It isn't lumberjack, which rounds to megabytes, keeps all files where one is
// wanted, follows links, removes files in the background, by a goroutine that never
// ends, and loses a file if two become full in a millisecond.
type rotation struct {
	// dir opens the directory.
	dir      func() (*os.Root, error)
	name     string
	maxBytes int64
	maxFiles int

	root *os.Root
	file *os.File
	size int64
}

// written says what became of lines.
type written struct {
	// bytes of whole lines were dealt with: written, but for those too large for a file.
	bytes           int
	lines, tooLarge int
}

// write appends lines. An error leaves the file with whole lines; the rest can be
// written again.
func (r *rotation) write(lines []byte) (done written, err error) {
	if err := r.open(); err != nil {
		return done, err
	}
	for done.bytes < len(lines) {
		rest := lines[done.bytes:]
		fits := r.fits(rest)
		switch {
		case fits > 0:
			n, err := r.append(rest[:fits])
			done.bytes += n
			done.lines += bytes.Count(rest[:n], []byte{'\n'})
			if err != nil {
				return done, err
			}
		case r.size > 0:
			if err := r.rotate(); err != nil {
				return done, err
			}
		default:
			done.bytes += bytes.IndexByte(rest, '\n') + 1
			done.tooLarge++
		}
	}
	return done, nil
}

// fits is how many bytes of whole lines there is room for.
func (r *rotation) fits(lines []byte) int {
	room := max(r.maxBytes-r.size, 0)
	if int64(len(lines)) <= room {
		return len(lines)
	}
	return bytes.LastIndexByte(lines[:room], '\n') + 1
}

// append writes lines, and cuts off the part of one that was written before an error.
func (r *rotation) append(lines []byte) (int, error) {
	n, err := r.file.Write(lines)
	if err == nil {
		r.size += int64(n)
		return n, nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	r.size += int64(whole)
	if r.file.Truncate(r.size) != nil {
		// It is cut when it is opened again.
		r.close()
	}
	return whole, fmt.Errorf("writing records: %w", err)
}

// open opens the file, unless it is. What a crash or a full disk has left of a line is
// cut off.
func (r *rotation) open() error {
	if r.file != nil {
		return nil
	}
	if r.root == nil {
		root, err := r.dir()
		if err != nil {
			return err
		}
		r.root = root
		for i := r.maxFiles; i < mostFiles; i++ {
			_ = r.root.Remove(r.old(i))
		}
	}
	info, err := r.root.Lstat(r.name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("opening %s: not a regular file", r.name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking at the file: %w", err)
	}
	file, err := r.root.OpenFile(r.name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the file: %w", err)
	}
	if r.size, err = wholeLines(file); err == nil {
		err = file.Truncate(r.size)
	}
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("looking for the last line: %w", err)
	}
	r.file = file
	return nil
}

// wholeLines is where the last whole line of a file ends.
func wholeLines(file *os.File) (int64, error) {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4<<10)
	for end > 0 {
		from := max(end-int64(len(buf)), 0)
		n, err := file.ReadAt(buf[:end-from], from)
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// old is the name of the file that was full i files ago.
func (r *rotation) old(i int) string { return r.name + "." + strconv.Itoa(i) }

// rotate puts the file aside and begins another.
func (r *rotation) rotate() error {
	r.close()
	last := r.name
	if r.maxFiles > 1 {
		last = r.old(r.maxFiles - 1)
	}
	if err := r.root.Remove(last); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the oldest file: %w", err)
	}
	for i := r.maxFiles - 2; i >= 0; i-- {
		from := r.name
		if i > 0 {
			from = r.old(i)
		}
		if err := r.root.Rename(from, r.old(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("putting a full file aside: %w", err)
		}
	}
	return r.open()
}

// close closes the file, which the next write opens again.
func (r *rotation) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.file = nil
}

// end closes all.
func (r *rotation) end() {
	r.close()
	if r.root != nil {
		_ = r.root.Close()
	}
	r.root = nil
}
