// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"nodegadget.dev/pkg/gadget"
)

// TestLossAddsUpAllThereIs, also what comes to be counted later.
func TestLossAddsUpAllThereIs(t *testing.T) {
	sum, one := &Loss{}, &Loss{}
	fields := one.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		one.ProtoReflect().Set(fields.Get(i), protoreflect.ValueOfUint64(uint64(i+1)))
	}
	sum.Add(one)
	sum.Add(one)
	sum.Add(nil)
	for i := range fields.Len() {
		require.Equal(t, uint64(2*(i+1)), sum.ProtoReflect().Get(fields.Get(i)).Uint(), fields.Get(i).Name())
	}
}

func TestTimeOffset(t *testing.T) {
	header := func(kind gadget.SourceKind, fields ...*Field) *Header {
		return &Header{Gadget: &Gadget{Source: &Source{Kind: uint32(kind), Fields: fields}}}
	}
	at := func(offset, size uint32) *Field {
		return &Field{Semantic: string(gadget.Timestamp), Offset: offset, Size: size}
	}
	offset, ok := header(gadget.Events, &Field{Size: 8}, at(16, 8), at(24, 8)).TimeOffset()
	require.True(t, ok)
	require.Equal(t, 16, offset)
	for _, without := range []*Header{
		nil, header(gadget.Events), header(gadget.Table, at(16, 8)), header(gadget.Events, at(16, 4)), header(gadget.Events, at(gadget.MaxRecordSize+1, 8)),
	} {
		_, ok := without.TimeOffset()
		require.False(t, ok)
	}
}
