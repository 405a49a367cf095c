// SPDX-License-Identifier: Apache-2.0

package tape_test

import (
	"sync"
	"testing"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// full is a batch as a busy gadget's queue makes it.
func full() *wire.Batch {
	b := &wire.Batch{}
	for i := range uint32(256) {
		b.Records = wire.AppendRecord(b.Records, i/64+1, make([]byte, 110))
		b.Count++
	}
	return b
}

func perRecord(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/record")
}

// BenchmarkAppend is what a batch of 256 records costs a session that nobody reads.
func BenchmarkAppend(b *testing.B) {
	b.ReportAllocs()
	tp, batch := tape.New(tape.Options{}), full()
	for b.Loop() {
		tp.Append(batch, nil)
	}
	perRecord(b)
}

// BenchmarkReaders is what it costs the writer, and sixteen readers, who may be overtaken.
func BenchmarkReaders(b *testing.B) {
	b.ReportAllocs()
	tp, batch := tape.New(tape.Options{}), full()
	var wg sync.WaitGroup
	var mu sync.Mutex
	records, missed := uint64(0), uint64(0)
	for range 16 {
		r := tp.Read(tape.From{Live: true})
		wg.Go(func() {
			read := uint64(0)
			for {
				m, err := r.Next(b.Context())
				if err != nil {
					break
				}
				read += uint64(m.GetBatch().GetCount())
			}
			mu.Lock()
			defer mu.Unlock()
			records, missed = records+read, missed+r.Missed()
		})
	}
	for b.Loop() {
		tp.Append(batch, nil)
	}
	tp.Close()
	wg.Wait()
	perRecord(b)
	b.ReportMetric(float64(missed)/float64(records+missed), "missed")
}
