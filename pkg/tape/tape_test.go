// SPDX-License-Identifier: Apache-2.0

package tape_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// made is a batch of records of the given containers. Each record is its time.
func made(ref uint32, times ...int64) *wire.Batch {
	b := &wire.Batch{}
	for _, at := range times {
		b.Records = wire.AppendRecord(b.Records, ref, binary.LittleEndian.AppendUint64(nil, uint64(at)))
		b.Count++
	}
	return b
}

// numbered is a batch of records with the times from to to-1.
func numbered(ref uint32, from, to int64) *wire.Batch {
	var times []int64
	for at := from; at < to; at++ {
		times = append(times, at)
	}
	return made(ref, times...)
}

func container(ref uint32, name string) *wire.Container { return &wire.Container{Ref: ref, Name: name} }

// told writes a message down: what a test expects is then one line each.
func told(t *testing.T, m *wire.RunResponse) string {
	t.Helper()
	switch {
	case m.GetReplayed() != nil:
		return "replayed"
	case m.GetNotice() != nil:
		return "notice " + m.GetNotice().GetText()
	case m.GetContainers() != nil:
		line := "containers"
		for _, c := range m.GetContainers().GetContainers() {
			line += fmt.Sprintf(" %d=%s", c.GetRef(), c.GetName())
		}
		return line
	}
	b := m.GetBatch()
	require.NoError(t, b.Check())
	line := fmt.Sprintf("batch %d:", b.GetSequence())
	i := 0
	for ref, record := range b.All() {
		line += fmt.Sprintf(" %d", binary.LittleEndian.Uint64(record))
		if ref != 0 {
			line += fmt.Sprintf("/%d", ref)
		}
		if len(b.GetTargets()) > 0 {
			line += fmt.Sprintf(">%d", b.GetTargets()[i])
		}
		i++
	}
	if b.GetIntervalEnd() {
		line += " end"
	}
	return line
}

// rest reads what there is.
func rest(t *testing.T, r *tape.Reader) []string {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var lines []string
	for {
		m, err := r.Next(ended)
		if err != nil {
			return lines
		}
		lines = append(lines, told(t, m))
	}
}

func TestReadersBeginWhereTheyWant(t *testing.T) {
	for _, test := range []struct {
		name string
		from tape.From
		want []string
	}{
		{"all that is retained", tape.From{}, []string{"batch 0: 10 11 12", "batch 3: 14 13 16 15", "notice hello", "batch 7: 17", "replayed", "batch 8: 9"}},
		{"only what comes", tape.From{Live: true}, []string{"replayed", "batch 8: 9"}},
		{"the last batch", tape.From{Tail: 1}, []string{"batch 7: 17", "replayed", "batch 8: 9"}},
		{"half a batch", tape.From{Tail: 3}, []string{"batch 5: 16 15", "notice hello", "batch 7: 17", "replayed", "batch 8: 9"}},
		{"more than there are", tape.From{Tail: 1000}, []string{"batch 0: 10 11 12", "batch 3: 14 13 16 15", "notice hello", "batch 7: 17", "replayed", "batch 8: 9"}},
		{"since the first", tape.From{Since: 1010}, []string{"batch 1: 11 12", "batch 3: 14 13 16 15", "notice hello", "batch 7: 17", "replayed", "batch 8: 9"}},
		{"since a time out of order", tape.From{Since: 1013}, []string{"batch 3: 14", "batch 5: 16 15", "notice hello", "batch 7: 17", "replayed", "batch 8: 9"}},
		{"since the last", tape.From{Since: 1017}, []string{"notice hello", "replayed", "batch 8: 9"}},
		{"the last ones since", tape.From{Since: 1013, Tail: 4}, []string{"batch 5: 16 15", "notice hello", "batch 7: 17", "replayed", "batch 8: 9"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tp := tape.New(tape.Options{Clock: &tape.Clock{Boot: 1000}})
			tp.Append(made(0, 10, 11, 12), nil)
			tp.Append(made(0, 14, 13, 16, 15), nil)
			tp.Notice("hello")
			tp.Append(made(0, 17), nil)
			r := tp.Read(test.from)
			// What comes is never too old.
			tp.Append(made(0, 9), nil)
			require.Equal(t, test.want, rest(t, r))
			require.Zero(t, r.Missed())
		})
	}
}

func TestWithoutAClockTheArrivalCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := tape.New(tape.Options{})
		tp.Append(made(0, 1, 2), nil)
		tp.Notice("old")
		time.Sleep(time.Second)
		since := time.Now().UnixNano()
		time.Sleep(time.Second)
		tp.Append(made(0, 3), nil)
		require.Equal(t, []string{"batch 2: 3", "replayed"}, rest(t, tp.Read(tape.From{Since: since})))
		require.Equal(t, "batch 0: 1 2", rest(t, tp.Read(tape.From{Since: 1}))[0])
	})
}

func TestATimeInTheFutureIsThatOfTheArrival(t *testing.T) {
	tp := tape.New(tape.Options{Clock: &tape.Clock{Boot: time.Now().UnixNano()}})
	tp.Append(made(0, int64(time.Hour)), nil)
	require.Equal(t, []string{"replayed"}, rest(t, tp.Read(tape.From{Since: time.Now().Add(time.Minute).UnixNano()})))
}

func TestARecordWithoutATimeHasThatOfItsArrival(t *testing.T) {
	tp := tape.New(tape.Options{Clock: &tape.Clock{Offset: 4}})
	tp.Append(made(0, 7), nil)
	require.Equal(t, []string{"batch 0: 7", "replayed"}, rest(t, tp.Read(tape.From{Since: 1})))
}

func TestTheOldestFallOut(t *testing.T) {
	tp := tape.New(tape.Options{Records: 5})
	slow, tail := tp.Read(tape.From{}), tp.Read(tape.From{})
	require.Equal(t, []string{"replayed"}, rest(t, slow))
	tp.Append(numbered(0, 0, 4), nil)
	require.Equal(t, []string{"replayed", "batch 0: 0 1 2 3"}, rest(t, tail))
	for from := int64(4); from < 16; from += 4 {
		tp.Append(numbered(0, from, from+4), nil)
	}
	require.EqualValues(t, 8, slow.Missed(), "the reader needs not read to know")
	require.EqualValues(t, 16, slow.Unread())
	require.Equal(t, []string{"batch 8: 8 9 10 11", "batch 12: 12 13 14 15"}, rest(t, slow))
	require.EqualValues(t, 8, slow.Missed())
	require.EqualValues(t, 8, slow.Unread())
	require.EqualValues(t, 4, tail.Missed())

	require.Equal(t, []string{"batch 11: 11", "batch 12: 12 13 14 15", "replayed"}, rest(t, tp.Read(tape.From{})), "exactly as many as are retained")
	require.EqualValues(t, 5, tp.Stats().Records)
}

func TestMarkerComesAlsoWhenWhatWasRetainedHasFallenOut(t *testing.T) {
	tp := tape.New(tape.Options{Records: 1})
	tp.Append(made(0, 1), nil)
	r := tp.Read(tape.From{})
	tp.Append(made(0, 2), nil)
	tp.Append(made(0, 3), nil)
	require.Equal(t, []string{"replayed", "batch 2: 3"}, rest(t, r))
	require.EqualValues(t, 2, r.Missed())
}

func TestBytesAreBounded(t *testing.T) {
	const limit = 64 << 10
	tp := tape.New(tape.Options{Records: 1 << 20, Bytes: limit})
	for i := range int64(2000) {
		ref := uint32(i + 1)
		tp.Append(numbered(ref, i, i+3), []*wire.Container{container(ref, "c")})
		// Unused explanations have a limit of their own.
		require.LessOrEqual(t, tp.Stats().Bytes, limit+512<<10)
	}
	require.NotZero(t, tp.Stats().Records)
	require.WithinDuration(t, time.Now(), tp.Stats().Oldest, time.Minute)

	tp.Append(&wire.Batch{Count: 1, Records: wire.AppendRecord(nil, 0, make([]byte, 2*limit))}, nil)
	require.EqualValues(t, 1, tp.Stats().Records, "the newest batch is kept, however large")
	tp.Append(made(0, 1), nil)
	require.EqualValues(t, 1, tp.Stats().Records)
}

func TestEmptyTape(t *testing.T) {
	tp := tape.New(tape.Options{})
	require.Zero(t, tp.Stats())
	tp.Append(&wire.Batch{}, []*wire.Container{container(1, "a")})
	require.Equal(t, []string{"replayed"}, rest(t, tp.Read(tape.From{Tail: 3, Since: 1})), "explanations alone are no message")
	tp.Append(made(1, 5), nil)
	require.Equal(t, []string{"containers 1=a", "batch 0: 5/1", "replayed"}, rest(t, tp.Read(tape.From{})))
}

func TestTheEndComesBehindAll(t *testing.T) {
	tp := tape.New(tape.Options{})
	r := tp.Read(tape.From{})
	tp.Append(made(0, 1), nil)
	tp.Close()
	tp.Close()
	tp.Append(made(0, 2), nil)
	tp.Notice("late")
	for _, want := range []string{"replayed", "batch 0: 1"} {
		m, err := r.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, told(t, m))
	}
	_, err := r.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, []string{"replayed"}, rest(t, tp.Read(tape.From{Live: true})))
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := tape.New(tape.Options{})
		r := tp.Read(tape.From{Live: true})
		require.Equal(t, []string{"replayed"}, rest(t, r))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		time.AfterFunc(time.Minute, func() { tp.Append(made(0, 1), nil) })
		m, err := r.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, "batch 0: 1", told(t, m))

		time.AfterFunc(time.Minute, tp.Close)
		_, err = r.Next(t.Context())
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestWhatIsRetainedIsACopy(t *testing.T) {
	tp := tape.New(tape.Options{})
	b := made(1, 1, 2)
	b.Targets = []uint32{0, 3}
	tp.Append(b, nil)
	clear(b.Records)
	clear(b.Targets)
	require.Equal(t, []string{"batch 0: 1/1>0 2/1>3", "replayed"}, rest(t, tp.Read(tape.From{})))
	require.Equal(t, []string{"batch 1: 2/1>3", "replayed"}, rest(t, tp.Read(tape.From{Tail: 1})))
}

func TestNoticesAreText(t *testing.T) {
	tp := tape.New(tape.Options{})
	long := make([]byte, 1<<20)
	for i := range long {
		long[i] = "ä"[i%2]
	}
	tp.Notice("a\xff" + string(long))
	m, err := tp.Read(tape.From{}).Next(t.Context())
	require.NoError(t, err)
	require.Len(t, m.GetNotice().GetText(), 4<<10-1)
}

func TestEndsOfIntervalsAreKept(t *testing.T) {
	end := func(b *wire.Batch) *wire.Batch {
		b.IntervalEnd = true
		return b
	}
	for _, test := range []struct {
		name string
		from tape.From
		want []string
	}{
		{"all", tape.From{}, []string{"batch 0: 5 6", "batch 2: 7 end", "batch 3: end", "batch 3: 8 3 end", "replayed"}},
		{"half an interval", tape.From{Tail: 4}, []string{"batch 1: 6", "batch 2: 7 end", "batch 3: end", "batch 3: 8 3 end", "replayed"}},
		{"whole intervals", tape.From{Tail: 2}, []string{"batch 3: 8 3 end", "replayed"}},
		{"the end is not kept", tape.From{Since: 1007}, []string{"batch 3: end", "batch 3: 8 end", "replayed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tp := tape.New(tape.Options{Clock: &tape.Clock{Boot: 1000}})
			tp.Append(made(0, 5, 6), nil)
			tp.Append(end(made(0, 7)), nil)
			tp.Append(end(&wire.Batch{}), nil)
			tp.Append(end(made(0, 8, 3)), nil)
			require.Equal(t, test.want, rest(t, tp.Read(test.from)))
		})
	}
	t.Run("an interval that was begun ends", func(t *testing.T) {
		tp := tape.New(tape.Options{Clock: &tape.Clock{Boot: 1000}})
		tp.Append(made(0, 9), nil)
		tp.Append(end(made(0, 2)), nil)
		require.Equal(t, []string{"batch 0: 9", "batch 2: end", "replayed"}, rest(t, tp.Read(tape.From{Since: 1005})))
	})
}

func TestResize(t *testing.T) {
	tp := tape.New(tape.Options{Records: 10})
	for i := range int64(10) {
		tp.Append(made(0, i), nil)
	}
	tp.Resize(3, 0)
	require.EqualValues(t, 3, tp.Stats().Records, "what is too much goes at once")
	tp.Resize(5, 0)
	for i := range int64(10) {
		tp.Append(made(0, i), nil)
	}
	require.EqualValues(t, 5, tp.Stats().Records)
	tp.Resize(0, 1)
	require.EqualValues(t, 1, tp.Stats().Records, "the newest is kept")
}
