// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// What a file output may take if its options don't say.
const (
	DefaultMaxBytes = 16 << 20
	DefaultMaxFiles = 4
)

// clusterDir has the files of ClusterTraceSessions. No namespace can have that name.
const clusterDir = "_cluster"

// maxFileName bounds the part of a file's name that is the session's.
const maxFileName = 180

// fileName is what may be part of a path: names as Kubernetes has them.
var fileName = regexp.MustCompile(`^[A-Za-z0-9]([-.A-Za-z0-9]{0,251}[A-Za-z0-9])?$`)

// FileOptions say where records are written, and how many.
type FileOptions struct {
	// Dir is the operator's directory for the files of all sessions. It must exist.
	Dir     string
	Session Session
	// MaxBytes bounds one file, 0 for 16 MiB, and MaxFiles their number, 0 for 4.
	MaxBytes int64
	MaxFiles int
}

// File writes records as lines of JSON to files on the node.
type File struct {
	progress
	opts FileOptions
}

// NewFile makes a file output. It touches nothing before Run.
func NewFile(opts FileOptions) *File {
	opts.MaxBytes = cmp.Or(max(opts.MaxBytes, 0), DefaultMaxBytes)
	opts.MaxFiles = cmp.Or(min(max(opts.MaxFiles, 0), mostFiles), DefaultMaxFiles)
	return &File{opts: opts}
}

// Name is what the output is called in a session's status.
func (f *File) Name() string { return "file" }

// Run writes what the reader reads, until the tape or the context ends. An error means
// that it could not begin.
func (f *File) Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error {
	f.begin(reader)
	defer f.end()
	span := newSpan(ctx)
	defer span.cancel()
	lines, err := newLines(header)
	if err != nil {
		return f.note(err)
	}
	out, err := f.rotation()
	if err != nil {
		return f.note(err)
	}
	defer out.end()
	_ = f.note(out.open())
	for !span.over() {
		message, err := reader.Next(ctx)
		if err != nil {
			return ended(err)
		}
		lines.explain(message.GetContainers())
		if batch := message.GetBatch(); batch.GetCount() > 0 {
			text, err := lines.of(batch)
			if err != nil {
				return f.note(err)
			}
			f.write(span, out, text, int(batch.GetCount()))
		}
	}
	return nil
}

// ended is nil for the usual ends of reading.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// write writes lines, again and again if need be.
func (f *File) write(span *span, out *rotation, lines []byte, left int) {
	retries := newRetries()
	for {
		done, err := out.write(lines)
		f.count(done.lines, done.tooLarge)
		lines = lines[done.bytes:]
		left -= done.lines + done.tooLarge
		if done.bytes > 0 {
			retries.Reset()
		}
		if err == nil && done.tooLarge > 0 {
			err = fmt.Errorf("%d records are larger than a file may be", done.tooLarge)
		}
		_ = f.note(err)
		if len(lines) == 0 {
			return
		}
		if !span.pause(retries.NextBackOff()) {
			f.count(0, left)
			return
		}
	}
}

// rotation is where the session's files are, without touching them.
func (f *File) rotation() (*rotation, error) {
	s := f.opts.Session
	namespace := cmp.Or(s.Namespace, clusterDir)
	for _, name := range []string{s.Name, s.UID, namespace} {
		if name != clusterDir && !fileName.MatchString(name) {
			return nil, fmt.Errorf("%.64q can't be part of a file's name", name)
		}
	}
	return &rotation{
		dir:  func() (*os.Root, error) { return directory(f.opts.Dir, namespace) },
		name: s.Name[:min(len(s.Name), maxFileName)] + "-" + s.UID[:min(len(s.UID), 64)] + ".jsonl",

		maxBytes: f.opts.MaxBytes, maxFiles: f.opts.MaxFiles,
	}, nil
}

// directory opens a directory below dir, which it makes. It follows no link to it.
func directory(dir, name string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of outputs: %w", err)
	}
	defer root.Close()
	if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	info, err := root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("looking at a directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("opening %s: not a directory", name)
	}
	below, err := root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("opening a directory: %w", err)
	}
	return below, nil
}
