// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// batchFor is a batch of count records that takes size bytes in the box.
func batchFor(count uint32, size int) *wire.RunResponse {
	return &wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: &wire.Batch{Count: count, Records: make([]byte, size-256)}}}
}

// take sends so many messages and returns their numbers.
func takeFrom(t *testing.T, b *box, count int) []uint64 {
	t.Helper()
	var numbers []uint64
	for range count {
		m, done, err := b.next(t.Context())
		require.NoError(t, err)
		require.False(t, done)
		numbers = append(numbers, m.GetSequence())
	}
	return numbers
}

func TestBoxForgetsOnlyWhatWasSent(t *testing.T) {
	b := newBox(10 << 10)
	for i := range 10 {
		b.add(batchFor(uint32(i+1), 1<<10))
	}
	require.True(t, b.full())
	require.Equal(t, []uint64{1, 2, 3, 4}, takeFrom(t, b, 4))
	require.False(t, b.full())
	b.add(batchFor(100, 2<<10))
	from, messages, records, err := b.resume(1)
	require.NoError(t, err)
	require.EqualValues(t, []uint64{2, 1, 2}, []uint64{from, messages, records}, "message 2 is forgotten, with its 2 records")
	require.Equal(t, []uint64{3, 4, 5, 6, 7, 8, 9, 10, 11}, takeFrom(t, b, 9))
	require.Zero(t, b.unsent)
	for range 5 {
		b.add(batchFor(1, 2<<10))
	}
	takeFrom(t, b, 5)
	from, messages, records, err = b.resume(11)
	require.NoError(t, err)
	require.EqualValues(t, []uint64{11, 0, 0}, []uint64{from, messages, records})
	from, messages, records, err = b.resume(0)
	require.NoError(t, err)
	require.EqualValues(t, []uint64{11, 11, 155}, []uint64{from, messages, records})
	_, _, _, err = b.resume(12)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestBoxDropsWhenTheSessionEnds(t *testing.T) {
	b := newBox(8 << 10)
	b.add(batchFor(1, 7<<10))
	require.True(t, b.full())
	b.end()
	require.False(t, b.full())
	b.add(batchFor(10, 1<<10))
	table := batchFor(20, 1<<10)
	table.Node, table.GetBatch().IntervalEnd = 3, true
	b.add(table)
	b.add(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{}}})
	b.close(nil)
	records, lost := b.counts()
	require.EqualValues(t, 31, records)
	require.EqualValues(t, 30, lost)
	takeFrom(t, b, 1)
	m, _, err := b.next(t.Context())
	require.NoError(t, err)
	require.True(t, m.GetBatch().GetIntervalEnd(), "an interval has an end although its rows are lost")
	require.Zero(t, m.GetBatch().GetCount())
	require.EqualValues(t, 31, m.GetBatch().GetSequence())
	require.EqualValues(t, 3, m.GetNode())
	m, _, err = b.next(t.Context())
	require.NoError(t, err)
	require.NotNil(t, m.GetEnd())
	_, done, err := b.next(t.Context())
	require.NoError(t, err)
	require.True(t, done)
}

func TestBoxIsBounded(t *testing.T) {
	b := newBox(4 << 10)
	for range 1000 {
		b.add(&wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: &wire.Notice{Text: "nonsense"}}})
	}
	require.LessOrEqual(t, b.bytes, 8<<10)
	require.True(t, b.finished())
	require.Equal(t, codes.ResourceExhausted, status.Code(b.err))
}

func TestBoxForgetsInTheEnd(t *testing.T) {
	b := newBox(1 << 10)
	for range 3 * maxForgotten {
		b.add(batchFor(1, 512))
		takeFrom(t, b, 1)
	}
	require.LessOrEqual(t, len(b.entries), maxForgotten+10)
	_, _, _, err := b.resume(1)
	require.Equal(t, codes.OutOfRange, status.Code(err))
	from, messages, records, err := b.resume(3*maxForgotten - 100)
	require.NoError(t, err)
	require.EqualValues(t, 98, messages)
	require.EqualValues(t, 98, records)
	require.EqualValues(t, 3*maxForgotten-2, from)
}

func TestRefs(t *testing.T) {
	s := &session{}
	first, second := newRefs(1, &s.refs), newRefs(2, &s.refs)
	first.explain([]*wire.Container{{Ref: 5, Name: "web"}, {Ref: 6, Name: "db"}})
	second.explain([]*wire.Container{{Ref: 5, Name: "cache"}})
	web, cache := first.relay(5), second.relay(5)
	require.NotEqual(t, web, cache)
	require.Len(t, first.take().GetContainers().GetContainers(), 2)
	require.Nil(t, first.take())
	first.explain([]*wire.Container{{Ref: 5, Name: "web", PodLabels: map[string]string{"app": "cart"}}})
	require.Equal(t, web, first.relay(5), "news don't change the reference")
	require.Equal(t, web, first.take().GetContainers().GetContainers()[0].GetRef())
	host := first.relay(0)
	require.Equal(t, host, first.relay(0))
	require.NotEqual(t, host, second.relay(0))
	require.NotEqual(t, first.relay(99), first.relay(98))
	require.Len(t, first.take().GetContainers().GetContainers(), 3)
	first.reset()
	require.NotEqual(t, web, first.relay(5), "another run of the agent, another meaning")
	require.Len(t, first.explained(), 6)
}

// TestRefsAreBounded, and those in use survive.
func TestRefsAreBounded(t *testing.T) {
	s := &session{}
	r := newRefs(1, &s.refs)
	old := r.relay(1)
	for i := range uint32(5 * maxGeneration) {
		r.relay(i + 2)
		if i%1000 == 0 {
			require.Equal(t, old, r.relay(1))
		}
		r.take()
	}
	require.LessOrEqual(t, len(r.explained()), 2*maxGeneration)
	large := newRefs(2, &s.refs)
	for i := range uint32(100) {
		large.explain([]*wire.Container{{Ref: i, Image: string(make([]byte, 1<<20))}})
		large.take()
	}
	require.LessOrEqual(t, len(large.explained()), 20)
}
