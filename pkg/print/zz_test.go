package print_test

import (
	"strconv"
	"testing"

	"nodegadget.dev/pkg/event"
)

func BenchmarkZValues(b *testing.B) {
	source := benchSource(b)
	record := encode(b, source, openValues())
	s := event.NewSchema(source, event.Options{BootTime: boot})
	var sum uint64
	for b.Loop() {
		for _, c := range s.Columns {
			v := c.Value(record)
			sum += uint64(v.Kind)
		}
	}
	_ = sum
}

func BenchmarkZEach(b *testing.B) {
	source := benchSource(b)
	record := encode(b, source, openValues())
	s := event.NewSchema(source, event.Options{BootTime: boot})
	for _, c := range s.Columns {
		b.Run(c.Name, func(b *testing.B) {
			var sum uint64
			for b.Loop() {
				for range 18 {
					v := c.Value(record)
					sum += uint64(v.Kind)
				}
			}
			_ = sum
		})
	}
}

func BenchmarkZUints(b *testing.B) {
	buf := make([]byte, 0, 1000)
	for b.Loop() {
		buf = buf[:0]
		for _, n := range []uint64{4711, 4026531840, 31337, 31338, 1000, 1000, 7, 0, 0o2000000, 0} {
			buf = strconv.AppendUint(buf, n, 10)
		}
	}
}

var pre = []byte(`,"cgroup_id":`)

func BenchmarkZPre(b *testing.B) {
	buf := make([]byte, 0, 1000)
	for b.Loop() {
		buf = buf[:0]
		for range 18 {
			buf = append(buf, pre...)
		}
	}
}
