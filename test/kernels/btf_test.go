// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// testBTF has the shape of BTF, with n words of types.
func testBTF(n int) []byte {
	types := bytes.Repeat([]byte{1, 2, 3, 4}, n)
	strings := []byte("\x00int\x00task_struct\x00")
	b := []byte(btfHeader)
	for _, field := range []int{0, len(types), len(types), len(strings)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(field))
	}
	return append(append(b, types...), strings...)
}

func TestFindBTF(t *testing.T) {
	small, large := testBTF(5), testBTF(500)
	impossible := bytes.Clone(large)
	impossible[12]++ // a length of types that is no multiple of four
	unterminated := append(bytes.Clone(large[:len(large)-1]), 'x')
	image := bytes.Join([][]byte{
		[]byte("code"), []byte(btfHeader), small, impossible, unterminated, []byte("x"), large, []byte("more"), []byte(btfHeader),
	}, nil)

	got, err := findBTF(image)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, large) {
		t.Errorf("found %d bytes, want %d", len(got), len(large))
	}
}

func TestFindBTFMissing(t *testing.T) {
	for _, image := range [][]byte{nil, []byte("code"), []byte(btfHeader), testBTF(5)[:30]} {
		if btf, err := findBTF(image); err == nil {
			t.Errorf("found %d bytes in %q", len(btf), image)
		}
	}
}
