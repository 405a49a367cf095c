// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// List lists an archive of a [Writer], one line an entry. Tests compare it.
func List(r io.Reader) (string, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	align := func(n int) int { return (n + 3) &^ 3 }
	for pos := 0; pos+110 <= len(data); {
		var field [13]int
		for i := range field {
			n, err := strconv.ParseUint(string(data[pos+6+8*i:pos+14+8*i]), 16, 32)
			if err != nil {
				return "", err
			}
			field[i] = int(n)
		}
		nameEnd := pos + 110 + field[11]
		name := string(data[pos+110 : nameEnd-1])
		content := data[align(nameEnd) : align(nameEnd)+field[6]]
		pos = align(align(nameEnd) + field[6])
		if name == "TRAILER!!!" {
			return out.String(), nil
		}
		fmt.Fprintf(&out, "%06o %s %d,%d %q\n", field[1], name, field[9], field[10], content)
	}
	return "", io.ErrUnexpectedEOF
}
