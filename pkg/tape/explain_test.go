// SPDX-License-Identifier: Apache-2.0

package tape_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

func TestReferencesAreExplainedBeforeTheirFirstUse(t *testing.T) {
	tp := tape.New(tape.Options{})
	early := tp.Read(tape.From{})
	mixed := made(1, 1)
	mixed.Records = wire.AppendRecord(mixed.Records, 2, make([]byte, 8))
	mixed.Count, mixed.Targets = 2, []uint32{0, 3}
	require.True(t, tp.Append(mixed, []*wire.Container{container(1, "a"), container(2, "b"), container(3, "c"), container(4, "unused")}))
	require.True(t, tp.Append(made(1, 2), nil))
	require.Equal(t, []string{"replayed", "containers 1=a 2=b 3=c", "batch 0: 1/1>0 0/2>3", "batch 2: 2/1"}, rest(t, early))
	require.Equal(t, []string{"containers 1=a", "batch 2: 2/1", "replayed"}, rest(t, tp.Read(tape.From{Tail: 1})), "only what is used")

	late := tp.Read(tape.From{Live: true})
	require.True(t, tp.Append(made(1, 3), []*wire.Container{container(1, "a2")}))
	require.Equal(t, []string{"containers 1=a2", "batch 3: 3/1"}, rest(t, early), "what is known better is told again")
	require.True(t, tp.Append(made(4, 4), nil))
	require.Equal(t, []string{"containers 4=unused", "batch 4: 4/4"}, rest(t, early), "explanations may come long before")
	require.Equal(t, []string{"replayed", "containers 1=a2", "batch 3: 3/1", "containers 4=unused", "batch 4: 4/4"}, rest(t, late))
	require.Equal(t, "containers 1=a2 2=b 3=c", rest(t, tp.Read(tape.From{}))[0], "the newest explanation also of old records")
}

func TestReferencesThatNobodyHasExplained(t *testing.T) {
	tp := tape.New(tape.Options{})
	require.True(t, tp.Append(made(0, 1), nil), "0 needs no explanation")
	require.False(t, tp.Append(made(7, 2), nil))
	require.Equal(t, []string{"batch 0: 1", "batch 1: 2/7", "replayed"}, rest(t, tp.Read(tape.From{})))
	require.True(t, tp.Append(made(7, 3), []*wire.Container{container(7, "late")}))
	require.Equal(t, []string{"batch 0: 1", "containers 7=late", "batch 1: 2/7", "batch 2: 3/7", "replayed"}, rest(t, tp.Read(tape.From{})))
	require.True(t, tp.Append(made(0, 4), []*wire.Container{container(0, "host")}))
	require.Equal(t, []string{"containers 0=host", "batch 3: 4", "replayed"}, rest(t, tp.Read(tape.From{Tail: 1})))
}

func TestForgottenReferencesAreAskedFor(t *testing.T) {
	var asked []uint32
	tp := tape.New(tape.Options{Explain: func(ref uint32) *wire.Container {
		asked = append(asked, ref)
		if ref == 7 {
			return container(7, "again")
		}
		return nil
	}})
	require.True(t, tp.Append(made(7, 1), nil))
	require.False(t, tp.Append(made(8, 2), nil))
	require.True(t, tp.Append(made(7, 3), nil))
	require.Equal(t, []uint32{7, 8}, asked)
	require.Equal(t, []string{"containers 7=again", "batch 0: 1/7", "batch 1: 2/8", "batch 2: 3/7", "replayed"}, rest(t, tp.Read(tape.From{})))
}

func TestSilentContainersStayExplained(t *testing.T) {
	tp := tape.New(tape.Options{Records: 3})
	r := tp.Read(tape.From{Live: true})
	require.Equal(t, []string{"replayed"}, rest(t, r))
	require.True(t, tp.Append(made(1, 0), []*wire.Container{container(1, "quiet")}))
	require.Len(t, rest(t, r), 2)
	for i := range int64(500) {
		tp.Append(made(2, i), []*wire.Container{container(2, "loud")})
	}
	rest(t, r)
	require.True(t, tp.Append(made(1, 1), nil))
	require.Equal(t, []string{"batch 501: 1/1"}, rest(t, r), "who has been told isn't told again")
	require.Equal(t, []string{"containers 1=quiet", "batch 501: 1/1", "replayed"}, rest(t, tp.Read(tape.From{Tail: 1})))
}

func TestExplanationsAreForgotten(t *testing.T) {
	const containers = 20_000
	tp := tape.New(tape.Options{Records: 3})
	r := tp.Read(tape.From{Live: true})
	for i := range uint32(containers) {
		require.True(t, tp.Append(made(i+1, 0), []*wire.Container{container(i+1, "short-lived")}))
		rest(t, r)
	}
	require.Less(t, tp.Stats().Bytes, 600<<10)
	require.False(t, tp.Append(made(1, 0), nil), "the writer is to explain it again")
	require.True(t, tp.Append(made(containers, 0), nil))
	require.True(t, tp.Append(made(1, 0), []*wire.Container{container(1, "back")}))
	require.Contains(t, rest(t, r), "containers 1=back")
}

func TestMessagesOfExplanationsAreBounded(t *testing.T) {
	tp := tape.New(tape.Options{Bytes: 64 << 20})
	batch := &wire.Batch{}
	var containers []*wire.Container
	for i := range uint32(3000) {
		c := container(i+1, fmt.Sprint(i))
		c.PodLabels = map[string]string{"long": strings.Repeat("x", 4000)}
		containers = append(containers, c)
		batch.Records = wire.AppendRecord(batch.Records, i+1, nil)
		batch.Count++
	}
	tp.Append(batch, containers)
	r := tp.Read(tape.From{})
	explained := 0
	for {
		m, err := r.Next(t.Context())
		require.NoError(t, err)
		require.Less(t, proto.Size(m), wire.MaxMessage)
		if m.GetBatch() != nil {
			break
		}
		explained += len(m.GetContainers().GetContainers())
	}
	require.Equal(t, 3000, explained)
}
