// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"fmt"

	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// keptBuffer is what is kept of the memory for lines between batches.
const keptBuffer = 1 << 20

// lines turns records into lines of JSON, as clients print them.
type lines struct {
	*decoder
	printer *print.Printer
	buf     bytes.Buffer
}

func newLines(header *wire.Header) (*lines, error) {
	decoder, err := newDecoder(header)
	if err != nil {
		return nil, err
	}
	l := &lines{decoder: decoder}
	if l.printer, err = print.New(&l.buf, decoder.schema, print.Options{Mode: print.JSON}); err != nil {
		return nil, fmt.Errorf("printing records: %w", err)
	}
	return l, nil
}

// of are the lines of a batch, one for each record. They are valid until the next call.
func (l *lines) of(batch *wire.Batch) ([]byte, error) {
	if l.buf.Reset(); l.buf.Cap() > keptBuffer {
		l.buf = bytes.Buffer{}
	}
	l.each(batch, func(at, target *place, record []byte) {
		var to *print.Origin
		if target != nil {
			to = &target.Origin
		}
		l.printer.RecordOf(&at.Origin, to, record)
	})
	err := l.printer.Flush()
	return l.buf.Bytes(), err
}
