// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
)

// How many kernels the synthetic bundle has.
const (
	grownKernels = 4000
	smokeGrown   = 100
	grownBundle  = "grown.bundle"
)

// grown is a bundle of more kernels than there are at hand: the corpus, then the
// corpus with newer versions of each content, and so on.
type grown struct {
	Kernels, Different int
	Bytes              int64
	// Structs is in how many structs a version differs from the one before.
	Structs int
}

// grow makes a bundle of that many kernels out of one. A round has the kernels of
// the bundle under new names. Each content has changed since the round before, in
// as many structs as contents of the bundle differ from the one that is nearest;
// so the share of different contents stays the same.
func (b *btfBench) grow(from *bundle.Bundle, kernels int) ([]byte, error) {
	names := from.Kernels()
	contents := map[int][]byte{} // by the bundle's number
	numbers := make([]int, len(names))
	for i, k := range names {
		raw, err := from.Lookup(k)
		if err != nil {
			return nil, err
		}
		number, _, _ := from.Content(k)
		numbers[i], contents[number] = number, raw
	}
	changes, err := nearest(contents)
	if err != nil {
		return nil, err
	}
	w := bundle.Writer{Objects: from.Info().Objects}
	random := rand.New(rand.NewPCG(1, 2))
	for added := range kernels {
		i, round := added%len(names), added/len(names)
		if i == 0 && round > 0 {
			if err := ageAll(contents, changes, random); err != nil {
				return nil, err
			}
		}
		if err := w.Add(renamed(names[i], round), contents[numbers[i]]); err != nil {
			return nil, err
		}
	}
	data, err := w.Encode()
	if err != nil {
		return nil, err
	}
	whole, err := bundle.New(data)
	if err != nil {
		return nil, err
	}
	info := whole.Info()
	b.res.Grown = grown{Kernels: info.Kernels, Different: info.Contents, Bytes: info.Size, Structs: changes}
	return data, nil
}

// renamed gives a kernel the name of a later version: 6.1.0-44-cloud-amd64 becomes
// 6.1.0.7-44-cloud-amd64. Kernels of one round stand together in the bundle.
func renamed(k layout.Kernel, round int) layout.Kernel {
	if round > 0 {
		version, rest, _ := strings.Cut(k.Uname, "-")
		k.Uname = fmt.Sprintf("%s.%d-%s", version, round, rest)
	}
	return k
}

// ageAll changes all contents, in the order of their numbers.
func ageAll(contents map[int][]byte, changes int, random *rand.Rand) error {
	for n := range len(contents) {
		aged, err := age(contents[n], changes, random)
		if err != nil {
			return err
		}
		contents[n] = aged
	}
	return nil
}

// age moves the members of a number of structs, from a random one to the last, by
// a random number of words: as if members had been put in before.
func age(raw []byte, changes int, random *rand.Rand) ([]byte, error) {
	aged := bytes.Clone(raw)
	structs, err := structsOf(aged)
	if err != nil {
		return nil, err
	}
	random.Shuffle(len(structs), func(i, j int) { structs[i], structs[j] = structs[j], structs[i] })
	for _, members := range structs[:min(changes, len(structs))] {
		count := len(members) / memberSize
		shift := uint32(64 * (1 + random.IntN(8))) // bits
		for m := random.IntN(count); m < count; m++ {
			// The upper byte may be the width of a bit field.
			offset := members[m*memberSize+8 : m*memberSize+12]
			word := binary.LittleEndian.Uint32(offset)
			binary.LittleEndian.PutUint32(offset, word&0xff000000|(word+shift)&0xffffff)
		}
	}
	return aged, nil
}

// nearest is the median of how many structs a content differs in from the one
// that is nearest to it, of those with the same types in the same order.
func nearest(contents map[int][]byte) (int, error) {
	parsed := make([][][]byte, len(contents))
	for n := range parsed {
		var err error
		if parsed[n], err = structsOf(contents[n]); err != nil {
			return 0, err
		}
	}
	var least []int
	for i := range parsed {
		best := 0
		for j := range parsed {
			if d := distance(parsed[i], parsed[j]); d > 0 && (best == 0 || d < best) {
				best = d
			}
		}
		if best > 0 {
			least = append(least, best)
		}
	}
	if len(least) == 0 {
		return 1, nil
	}
	slices.Sort(least)
	return least[len(least)/2], nil
}

// distance is how many structs differ, 0 if these aren't the same structs.
func distance(one, other [][]byte) int {
	if len(one) != len(other) {
		return 0
	}
	differ := 0
	for i := range one {
		if len(one[i]) != len(other[i]) {
			return 0
		}
		if !bytes.Equal(one[i], other[i]) {
			differ++
		}
	}
	return differ
}

// memberSize is that of struct btf_member: name, type, offset.
const memberSize = 12

var errBTF = errors.New("not little-endian BTF as it is in a bundle")

// structsOf finds the members of all structs that have some in raw BTF, which is
// the layout of include/uapi/linux/btf.h.
func structsOf(raw []byte) ([][]byte, error) {
	const header, fixed = 24, 12
	if len(raw) < header || binary.LittleEndian.Uint16(raw) != 0xeb9f {
		return nil, errBTF
	}
	begin := int64(binary.LittleEndian.Uint32(raw[4:])) + int64(binary.LittleEndian.Uint32(raw[8:]))
	end := begin + int64(binary.LittleEndian.Uint32(raw[12:]))
	if begin > end || end > int64(len(raw)) {
		return nil, errBTF
	}
	var structs [][]byte
	for types := raw[begin:end]; len(types) > 0; {
		if len(types) < fixed {
			return nil, errBTF
		}
		info := binary.LittleEndian.Uint32(types[4:])
		kind, extra := info>>24&31, extraSize(info)
		if extra < 0 || fixed+extra > len(types) {
			return nil, errBTF
		}
		if kind == kindStruct && extra > 0 {
			structs = append(structs, types[fixed:fixed+extra])
		}
		types = types[fixed+extra:]
	}
	return structs, nil
}

const kindStruct = 4

// extraSize is how many bytes follow the common part of a type, -1 if unknown.
func extraSize(info uint32) int {
	count := int(info & 0xffff)
	switch info >> 24 & 31 {
	case 1, 14, 17: // integer, variable, declaration tag
		return 4
	case 3: // array
		return 12
	case kindStruct, 5, 19: // struct, union, 64-bit enumeration
		return memberSize * count
	case 6, 13: // enumeration, function prototype
		return 8 * count
	case 15: // data section
		return 12 * count
	case 2, 7, 8, 9, 10, 11, 12, 16, 18: // all that refer to a type, forwards, floats
		return 0
	}
	return -1
}
