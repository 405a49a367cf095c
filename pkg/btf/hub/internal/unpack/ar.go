// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ArMagic begins an ar archive, which a Debian package is.
const ArMagic = "!<arch>\n"

// arHeader is the length of a member's header in bytes: name 16, time 12,
// owner 6, group 6, mode 8, size 10, and two bytes that end it.
const arHeader = 60

// Ar reads an ar archive's members one after another.
type Ar struct {
	r    *bufio.Reader
	body io.LimitedReader // what is left of the member
	pad  int64            // a byte behind members of odd size
}

// NewAr checks the magic bytes.
func NewAr(r io.Reader) (*Ar, error) {
	a := &Ar{r: bufio.NewReaderSize(r, 64<<10)}
	a.body.R = a.r
	magic := make([]byte, len(ArMagic))
	if _, err := io.ReadFull(a.r, magic); err != nil {
		return nil, fmt.Errorf("ar: %w", noEOF(err))
	}
	if string(magic) != ArMagic {
		return nil, fmt.Errorf("ar: begins with %q, want %q", magic, ArMagic)
	}
	return a, nil
}

// Next returns the next member's name and content, which is valid until Next is
// called again. The error is io.EOF after the last.
func (a *Ar) Next() (string, io.Reader, error) {
	if err := skip(a.r, a.body.N+a.pad); err != nil {
		return "", nil, fmt.Errorf("ar: %w", err)
	}
	a.body.N, a.pad = 0, 0
	var h [arHeader]byte
	if _, err := io.ReadFull(a.r, h[:]); errors.Is(err, io.EOF) {
		return "", nil, io.EOF
	} else if err != nil {
		return "", nil, fmt.Errorf("ar: %w", err)
	}
	size, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 62)
	if err != nil || string(h[58:]) != "`\n" {
		return "", nil, fmt.Errorf("ar: no member's header: %q", h[:])
	}
	a.body.N, a.pad = int64(size), int64(size&1)
	return strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/"), &a.body, nil
}

// skip reads n bytes and drops them.
func skip(r *bufio.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return noEOF(err)
}

// noEOF is for places where the end comes too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
