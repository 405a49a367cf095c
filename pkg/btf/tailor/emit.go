// SPDX-License-Identifier: Apache-2.0

package tailor

// writer makes BTF of what is marked.
type writer struct {
	*marks
	ids     map[uint32]uint32 // the kernel's type to ours
	wrapped map[uint32]uint32 // old bitfields behind a typedef
	extents map[uint32]uint32
	words   []uint32
	next    uint32
	names   map[string]uint32
	strings []byte
}

// emit returns raw BTF with the marked types, in the order of the marks.
func (m *marks) emit() []byte {
	w := &writer{
		marks:   m,
		ids:     make(map[uint32]uint32, len(m.order)),
		wrapped: make(map[uint32]uint32),
		extents: make(map[uint32]uint32),
		names:   map[string]uint32{"": 0},
		strings: []byte{0},
	}
	w.number()
	for _, id := range m.order {
		if w.ids[id] <= w.next {
			continue // a pointer like an earlier one
		}
		w.next++
		w.typ(id, m.kept[id])
	}
	for _, id := range m.order {
		if wrapper, ok := w.wrapped[id]; ok {
			w.head(0, kindConst, false, 0, w.ids[id])
			w.next = wrapper
		}
	}
	return w.bytes()
}

// number gives each type its ID. Pointers to what nobody looks at are one type.
func (w *writer) number() {
	next, void := uint32(0), uint32(0)
	for _, id := range w.order {
		anyPointer := w.t.kind(id) == kindPointer && !w.kept[id].has(pointee)
		if anyPointer && void != 0 {
			w.ids[id] = void
			continue
		}
		next++
		w.ids[id] = next
		if anyPointer {
			void = next
		}
	}
	// A loader may take an integer that is an old bitfield as one only where a
	// member has it without a typedef between.
	for _, id := range w.order {
		if w.t.oldBitfield(id) {
			next++
			w.wrapped[id] = next
		}
	}
}

// ref is our ID of the kernel's type, without typedefs and qualifiers.
func (w *writer) ref(id uint32) uint32 {
	under, err := w.t.underlying(id)
	if err != nil {
		return 0 // can't be: it was followed when it was marked
	}
	if wrapper, ok := w.wrapped[under]; ok && under != id {
		return wrapper
	}
	return w.ids[under]
}

func (w *writer) head(name uint32, k kind, flag bool, length int, sizeOrType uint32) {
	info := uint32(k)<<24 | uint32(length)
	if flag {
		info |= 1 << 31
	}
	w.words = append(w.words, name, info, sizeOrType)
}

// name copies a name.
func (w *writer) name(offset uint32) uint32 {
	s := w.t.str(offset)
	at, ok := w.names[s]
	if !ok {
		at = uint32(len(w.strings))
		w.names[s] = at
		w.strings = append(append(w.strings, s...), 0)
	}
	return at
}

func (w *writer) typ(id uint32, kept *mark) {
	t, k := w.t, w.t.kind(id)
	name, size := w.name(t.word(id, 0)), t.word(id, 2)
	parts := kept.indices()
	switch k {
	case kindInt:
		w.head(name, k, false, 0, size)
		w.words = append(w.words, t.extra(id)...)
	case kindFloat, kindFwd:
		w.head(name, k, t.flag(id), 0, size)
	case kindTypedef, kindVolatile, kindConst, kindRestrict:
		w.head(name, k, false, 0, w.ref(size))
	case kindPointer:
		w.head(name, k, false, 0, w.refIf(kept.has(pointee), size))
	case kindArray:
		array := t.extra(id)
		w.head(name, k, false, 0, 0)
		w.words = append(w.words, w.refIf(kept.has(arrayElement), array[0]), w.refIf(kept.has(arrayIndex), array[1]), array[2])
	case kindStruct, kindUnion:
		w.head(name, k, t.flag(id) && len(parts) > 0, len(parts), w.extent(id, 0))
		for _, i := range parts {
			name, typ, offset := t.member(id, i)
			w.words = append(w.words, w.name(name), w.ref(typ), offset)
		}
	case kindEnum, kindEnum64:
		w.head(name, k, t.flag(id), len(parts), size)
		for _, i := range parts {
			n := t.valueWords(id)
			value := t.extra(id)[i*n : (i+1)*n]
			w.words = append(append(w.words, w.name(value[0])), value[1:]...)
		}
	case kindFuncProto:
		params := t.extra(id)
		w.head(name, k, false, len(parts), w.refIf(kept.has(pointee), size))
		for _, i := range parts {
			w.words = append(w.words, w.name(params[2*i]), w.ref(params[2*i+1]))
		}
	default:
		// Functions and variables match nothing, but keep the numbers right.
		w.head(name, kindFwd, false, 0, 0)
	}
}

func (w *writer) refIf(wanted bool, id uint32) uint32 {
	if !wanted {
		return 0
	}
	return w.ref(id)
}

// extent is the size of a struct: its own where that matters, else where the
// last kept member ends.
func (w *writer) extent(id uint32, depth int) uint32 {
	if w.kept[id].has(wholeSize) || depth > maxDepth {
		return w.t.word(id, 2)
	}
	if known, ok := w.extents[id]; ok {
		return known
	}
	end := uint64(0)
	for _, i := range w.kept[id].indices() {
		_, typ, offset := w.t.member(id, i)
		bits := uint64(w.t.bitfieldSize(id, offset))
		if w.t.flag(id) {
			offset &= 0xffffff
		}
		if bits == 0 {
			bits = 8 * w.sizeOf(typ, depth+1)
		}
		end = max(end, (uint64(offset)+bits+7)/8)
	}
	size := uint32(min(end, uint64(w.t.word(id, 2))))
	w.extents[id] = size
	return size
}

func (w *writer) sizeOf(id uint32, depth int) uint64 {
	under, err := w.t.underlying(id)
	if err != nil || under == 0 || depth > maxDepth || w.kept[under] == nil {
		return 0
	}
	switch w.t.kind(under) {
	case kindPointer:
		return 8
	case kindArray:
		array := w.t.extra(under)
		return uint64(array[2]) * w.sizeOf(array[0], depth+1) & 0xffffffff
	case kindStruct, kindUnion:
		return uint64(w.extent(under, depth))
	case kindInt, kindEnum, kindEnum64, kindFloat:
		return uint64(w.t.word(under, 2))
	}
	return 0
}

func (w *writer) bytes() []byte {
	types := 4 * len(w.words)
	out := make([]byte, headerSize+types+len(w.strings))
	order := w.t.order
	order.PutUint16(out, magic)
	out[2] = 1
	for i, v := range []uint32{headerSize, 0, uint32(types), uint32(types), uint32(len(w.strings))} {
		order.PutUint32(out[4+4*i:], v)
	}
	for i, v := range w.words {
		order.PutUint32(out[headerSize+4*i:], v)
	}
	copy(out[headerSize+types:], w.strings)
	return out
}
