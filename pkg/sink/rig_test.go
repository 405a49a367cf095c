// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// boot is when the node of the tests was started.
var boot = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// execSpec is a gadget whose records are about two processes, with a text of any length.
func execSpec() *gadget.Spec {
	return &gadget.Spec{Name: "trace_things", Description: "show things", Source: gadget.Source{
		Kind: gadget.Events, Map: "gadget_events", Size: 64, Fields: []gadget.Field{
			{Name: "timestamp", Doc: "time", Size: 8, Kind: gadget.Uint, Semantic: gadget.Timestamp},
			{Name: "pid", Doc: "process", Offset: 8, Size: 4, Kind: gadget.Uint},
			{Name: "errno", Doc: "error", Offset: 12, Size: 4, Kind: gadget.Uint, Semantic: gadget.Errno},
			{Name: "comm", Doc: "name", Offset: 16, Size: 16, Kind: gadget.String},
			{Name: "args", Doc: "arguments", Offset: 32, Size: 4, Kind: gadget.Tail, Semantic: gadget.Args},
			{Name: "target.pid", Doc: "other process", Offset: 36, Size: 4, Kind: gadget.Uint},
			{Name: "target.cgroup_id", Doc: "its cgroup", Offset: 40, Size: 8, Kind: gadget.Uint, Semantic: gadget.Cgroup, Hidden: true},
			{Name: "size", Doc: "size", Offset: 48, Size: 8, Kind: gadget.Uint, Semantic: gadget.ByteCount},
			{Name: "failed", Doc: "whether it failed", Offset: 56, Size: 1, Kind: gadget.Bool},
			{Name: "delta", Doc: "difference", Offset: 60, Size: 4, Kind: gadget.Int},
		},
	}}
}

// thing is a record of execSpec.
func thing(n uint32, comm, args string) []byte {
	r := make([]byte, 64, 64+len(args))
	binary.LittleEndian.PutUint64(r, uint64(n)*uint64(time.Millisecond))
	binary.LittleEndian.PutUint32(r[8:], n)
	binary.LittleEndian.PutUint32(r[12:], n%3)
	copy(r[16:32], comm)
	binary.LittleEndian.PutUint16(r[32:], 64)
	binary.LittleEndian.PutUint16(r[34:], uint16(len(args)))
	binary.LittleEndian.PutUint32(r[36:], n+1)
	binary.LittleEndian.PutUint64(r[40:], 77)
	binary.LittleEndian.PutUint64(r[48:], 1<<63+uint64(n))
	r[56] = byte(n % 2)
	binary.LittleEndian.PutUint32(r[60:], uint32(-int32(n)))
	return append(r, args...)
}

func headerOf(spec *gadget.Spec) *wire.Header {
	return &wire.Header{
		Protocol: wire.Current(), Gadget: wire.FromSpec(spec), BootTime: boot.UnixNano(),
		Node: &wire.Node{Name: "worker-1", Arch: "x86_64"},
	}
}

// cart is a container that records are made in, and pay one that they are about.
func cart() *wire.Container {
	return &wire.Container{Ref: 7, Id: "c0ffee", Name: "web", Namespace: "shop", Pod: "cart-1", PodUid: "u-1", Image: "cart:v1"}
}

func pay() *wire.Container {
	return &wire.Container{Ref: 8, Id: "decaf", Name: "pay", Namespace: "shop", Pod: "pay-1", PodUid: "u-2", Image: "pay:v1"}
}

// batchOf is a batch of records of a container.
func batchOf(ref uint32, records ...[]byte) *wire.Batch {
	b := &wire.Batch{}
	for _, record := range records {
		b.Records = wire.AppendRecord(b.Records, ref, record)
		b.Count++
	}
	return b
}

// things is a batch of the records from to to-1, of the cart.
func things(from, to uint32) *wire.Batch {
	var records [][]byte
	for n := from; n < to; n++ {
		records = append(records, thing(n, "sh", "sh\x00-c\x00"))
	}
	return batchOf(7, records...)
}

// output is any of the package's.
type output interface {
	Name() string
	Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error
	State() sink.State
}

// start runs an output on all that a tape gets. The result ends it, and says how it ended.
func start(t *testing.T, o output, spec *gadget.Spec, tp *tape.Tape) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	reader := tp.Read(tape.From{})
	go func() { done <- o.Run(ctx, headerOf(spec), reader) }()
	ended := false
	stop = func() error {
		ended = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			require.FailNow(t, "the output doesn't end")
			return nil
		}
	}
	t.Cleanup(func() {
		if !ended {
			_ = stop()
		}
	})
	return stop
}

// settled waits until all of so many records have been written or dropped.
func settled(t *testing.T, o output, records uint64) sink.State {
	t.Helper()
	require.Eventually(t, func() bool {
		s := o.State()
		return s.Written+s.Dropped >= records
	}, 20*time.Second, 5*time.Millisecond, "%s: %+v", o.Name(), o.State())
	s := o.State()
	require.Equal(t, records, s.Written+s.Dropped)
	return s
}

var shopSession = sink.Session{Namespace: "shop", Name: "carts", UID: "5f2e"}
