// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// tally is what is in a file that a tool has written.
type tally struct {
	// Lines are all, Matched those of the generator.
	Lines, Matched uint64
	// Torn says that the last line has no end.
	Torn bool
	// Lost is what the tool says among its events that it lost.
	Lost uint64
}

func tallyFile(path string, match func([]byte) bool) (tally, error) {
	file, err := os.Open(path)
	if err != nil {
		return tally{}, fmt.Errorf("counting events: %w", err)
	}
	defer file.Close()
	t, err := count(file, match)
	if err != nil {
		return t, fmt.Errorf("counting events: %w", err)
	}
	return t, nil
}

// count reads lines, the longest of which must fit into the buffer.
func count(r io.Reader, match func([]byte) bool) (tally, error) {
	var t tally
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			t.Torn = len(line) > 0
			return t, nil
		}
		if err != nil {
			return t, err
		}
		line = bytes.TrimRight(line, "\r\n")
		t.Lines++
		if match(line) {
			t.Matched++
		}
		if lost, ok := lostIn(line); ok {
			t.Lost += lost
		}
	}
}
