// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// The "new ASCII" format: a magic number and 13 fields of eight hex digits.
const (
	cpioHeader  = 6 + 13*8
	cpioMode    = 1 // fields
	cpioSize    = 6
	cpioNameLen = 11
)

// maxCPIOName bounds a name, in bytes. Linux's PATH_MAX is 4096.
const maxCPIOName = 4096

const (
	cpioTypeMask = 0o170000
	cpioRegular  = 0o100000
)

// CPIO reads the archive that is an rpm package's payload.
type CPIO struct {
	r    *bufio.Reader
	body io.LimitedReader
	pad  int64
}

// NewCPIO begins to read r.
func NewCPIO(r io.Reader) *CPIO {
	c := &CPIO{r: bufio.NewReaderSize(r, 64<<10)}
	c.body.R = c.r
	return c
}

// Next returns the next regular file's name, size and content, which is valid
// until Next is called again. Of files with several names only the last has the
// content, the others are empty. The error is io.EOF after the last.
func (c *CPIO) Next() (name string, size int64, content io.Reader, err error) {
	for {
		mode, err := c.header(&name)
		if err != nil {
			return "", 0, nil, fmt.Errorf("cpio: %w", err)
		}
		if name == "TRAILER!!!" {
			return "", 0, nil, io.EOF
		}
		if mode&cpioTypeMask == cpioRegular {
			return name, c.body.N, &c.body, nil
		}
	}
}

// header reads the next member's header and name, and leaves its size in body.
func (c *CPIO) header(name *string) (mode uint64, err error) {
	if err := skip(c.r, c.body.N+c.pad); err != nil {
		return 0, err
	}
	c.body.N, c.pad = 0, 0
	var h [cpioHeader]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, noEOF(err)
	}
	if magic := string(h[:6]); magic != "070701" && magic != "070702" {
		return 0, fmt.Errorf("begins with %q, want 070701 or 070702", magic)
	}
	field := func(i int) uint64 {
		v, parseErr := strconv.ParseUint(string(h[6+8*i:14+8*i]), 16, 32)
		if parseErr != nil {
			err = fmt.Errorf("no member's header: %q", h[:])
		}
		return v
	}
	mode, size, nameLen := field(cpioMode), field(cpioSize), field(cpioNameLen)
	if err != nil {
		return 0, err
	}
	if nameLen == 0 || nameLen > maxCPIOName {
		return 0, fmt.Errorf("name of %d bytes, want 1 to %d", nameLen, maxCPIOName)
	}
	// Name and content are each padded to a multiple of four.
	b := make([]byte, nameLen+-(cpioHeader+nameLen)&3)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return 0, noEOF(err)
	}
	*name = string(b[:nameLen-1])
	c.body.N, c.pad = int64(size), int64(-size&3)
	return mode, nil
}
