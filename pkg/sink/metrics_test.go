// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// gathered is what a registry makes of collectors.
func gathered(t *testing.T, collectors ...prometheus.Collector) []*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewRegistry()
	for _, c := range collectors {
		require.NoError(t, registry.Register(c))
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	return families
}

// scraped are the lines that Prometheus reads, sorted.
func scraped(t *testing.T, collectors ...prometheus.Collector) []string {
	t.Helper()
	var text bytes.Buffer
	for _, f := range gathered(t, collectors...) {
		_, err := expfmt.MetricFamilyToText(&text, f)
		require.NoError(t, err)
	}
	var lines []string
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "nodegadget_session_overflow_records_total") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return lines
}

// counted runs metrics on batches, to their end.
func counted(t *testing.T, m *sink.Metrics, spec *gadget.Spec, batches ...*wire.Batch) {
	t.Helper()
	tp := tape.New(tape.Options{Records: 1 << 20, Bytes: 1 << 30})
	for _, b := range batches {
		tp.Append(b, []*wire.Container{cart(), pay()})
	}
	tp.Close()
	require.NoError(t, m.Run(t.Context(), headerOf(spec), tp.Read(tape.From{})))
}

const own = `session="carts",session_namespace="shop"`

func TestEventsAreCounted(t *testing.T) {
	for _, test := range []struct {
		name   string
		labels []string
		want   []string
	}{
		{"by container", nil, []string{
			`nodegadget_session_events_total{container="",gadget="trace_things",namespace="",pod="",` + own + `} 1`,
			`nodegadget_session_events_total{container="<unresolved>",gadget="trace_things",namespace="",pod="",` + own + `} 1`,
			`nodegadget_session_events_total{container="web",gadget="trace_things",namespace="shop",pod="cart-1",` + own + `} 3`,
		}},
		{"by fields", []string{"comm", "target.pid"}, []string{
			`nodegadget_session_events_total{comm="init",container="",gadget="trace_things",namespace="",pod="",` + own + `,target_pid="5"} 1`,
			`nodegadget_session_events_total{comm="sh\\x1b[2J",container="web",gadget="trace_things",namespace="shop",pod="cart-1",` + own + `,target_pid="2"} 2`,
			`nodegadget_session_events_total{comm="who",container="<unresolved>",gadget="trace_things",namespace="",pod="",` + own + `,target_pid="6"} 1`,
			`nodegadget_session_events_total{comm="x\"y",container="web",gadget="trace_things",namespace="shop",pod="cart-1",` + own + `,target_pid="4"} 1`,
		}},
		{"by a name", []string{"error"}, []string{
			`nodegadget_session_events_total{container="",error="EPERM",gadget="trace_things",namespace="",pod="",` + own + `} 1`,
			`nodegadget_session_events_total{container="<unresolved>",error="ENOENT",gadget="trace_things",namespace="",pod="",` + own + `} 1`,
			`nodegadget_session_events_total{container="web",error="",gadget="trace_things",namespace="shop",pod="cart-1",` + own + `} 1`,
			`nodegadget_session_events_total{container="web",error="EPERM",gadget="trace_things",namespace="shop",pod="cart-1",` + own + `} 2`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession, Labels: test.labels})
			require.Empty(t, scraped(t, m))
			counted(
				t, m, execSpec(),
				batchOf(7, thing(1, "sh\x1b[2J", ""), thing(1, "sh\x1b[2J", ""), thing(3, `x"y`, "")),
				batchOf(0, thing(4, "init", "")), batchOf(99, thing(5, "who", "")),
			)
			require.Equal(t, test.want, scraped(t, m))
			require.Equal(t, sink.State{Written: 5}, m.State())
		})
	}
}

// syscalls is a table as top_syscall has it.
func syscalls() *gadget.Spec {
	field := func(name string, offset uint32, size uint32, semantic gadget.Semantic) gadget.Field {
		return gadget.Field{Name: name, Doc: name, Offset: offset, Size: size, Kind: gadget.Uint, Semantic: semantic}
	}
	return &gadget.Spec{Name: "top_calls", Description: "calls", Source: gadget.Source{
		Kind: gadget.Table, Size: 64, KeySize: 12, Fields: []gadget.Field{
			field("pid", 0, 4, ""), field("key", 4, 8, ""), field("cgroup_id", 16, 8, gadget.Cgroup), field("count", 24, 8, ""), field("time", 32, 8, gadget.Duration),
			field("max", 40, 8, gadget.Duration), field("io.read", 48, 8, gadget.ByteCount), field("io_read", 48, 8, gadget.ByteCount), field("uid", 56, 4, ""),
		},
	}}
}

func callsOf(pid uint32, count, nanoseconds, bytes uint64) []byte {
	r := make([]byte, 64)
	binary.LittleEndian.PutUint32(r, pid)
	binary.LittleEndian.PutUint64(r[24:], count)
	binary.LittleEndian.PutUint64(r[32:], nanoseconds)
	binary.LittleEndian.PutUint64(r[40:], 99)
	binary.LittleEndian.PutUint64(r[48:], bytes)
	return r
}

func TestNumbersOfTablesAreSummed(t *testing.T) {
	interval := func(b *wire.Batch) *wire.Batch {
		b.IntervalEnd = true
		return b
	}
	m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession})
	counted(
		t, m, syscalls(), batchOf(7, callsOf(1, 10, 5e8, 100), callsOf(2, 5, 5e8, 1)), interval(&wire.Batch{}),
		interval(batchOf(7, callsOf(1, 1, 25e7, 0))), interval(batchOf(8, callsOf(3, 4, 0, 7))),
	)
	labels := func(container, pod string) string {
		return `{container="` + container + `",gadget="top_calls",namespace="shop",pod="` + pod + `",` + own + `} `
	}
	require.Equal(t, []string{
		`nodegadget_session_top_calls_count_total` + labels("pay", "pay-1") + "4",
		`nodegadget_session_top_calls_count_total` + labels("web", "cart-1") + "16",
		`nodegadget_session_top_calls_io_read_bytes_total` + labels("pay", "pay-1") + "7",
		`nodegadget_session_top_calls_io_read_bytes_total` + labels("web", "cart-1") + "101",
		`nodegadget_session_top_calls_time_seconds_total` + labels("pay", "pay-1") + "0",
		`nodegadget_session_top_calls_time_seconds_total` + labels("web", "cart-1") + "1.25",
	}, scraped(t, m))
}

// waits is a table of histograms, in a unit that each row names.
func waits(unit gadget.Field) *gadget.Spec {
	return &gadget.Spec{Name: "profile_waits", Description: "waits", Source: gadget.Source{
		Kind: gadget.Table, Size: 40, KeySize: 4, Fields: []gadget.Field{
			unit, {Name: "slots", Doc: "slots", Offset: 8, Size: 32, Elem: 8, Kind: gadget.Slots, Semantic: gadget.Log2},
		},
	}}
}

func waitsOf(unit byte, slots ...uint64) []byte {
	r := make([]byte, 40)
	r[0] = unit
	for i, n := range slots {
		binary.LittleEndian.PutUint64(r[8+8*i:], n)
	}
	return r
}

func enum(name string, values ...string) gadget.Field {
	f := gadget.Field{Name: name, Doc: "unit", Size: 4, Kind: gadget.Enum}
	for i, v := range values {
		f.Values = append(f.Values, gadget.EnumValue{Name: v, Value: int64(i)})
	}
	return f
}

func TestHistogramsOfTables(t *testing.T) {
	for _, test := range []struct {
		name string
		unit gadget.Field
		want []string
	}{
		{"microseconds", enum("unit", "us", "ms"), []string{
			`_slots_seconds_bucket{…,le="+Inf"} 15`, `_slots_seconds_bucket{…,le="2e-06"} 3`, `_slots_seconds_bucket{…,le="4e-06"} 3`, `_slots_seconds_bucket{…,le="8e-06"} 8`,
			`_slots_seconds_count{…} 15`, `_slots_seconds_sum{…} 0.0001185`,
		}},
		{"milliseconds", enum("unit", "ms", "us"), []string{
			`_slots_seconds_bucket{…,le="+Inf"} 15`, `_slots_seconds_bucket{…,le="0.002"} 3`, `_slots_seconds_bucket{…,le="0.004"} 3`, `_slots_seconds_bucket{…,le="0.008"} 8`,
			`_slots_seconds_count{…} 15`, `_slots_seconds_sum{…} 0.11850000000000001`,
		}},
		{"bytes", enum("unit", "bytes", "KiB"), []string{
			`_slots_bytes_bucket{…,le="+Inf"} 15`, `_slots_bytes_bucket{…,le="2"} 3`, `_slots_bytes_bucket{…,le="4"} 3`, `_slots_bytes_bucket{…,le="8"} 8`,
			`_slots_bytes_count{…} 15`, `_slots_bytes_sum{…} 118.5`,
		}},
		{"whatever", enum("kind", "us"), []string{
			`_slots_bucket{…,le="+Inf"} 15`, `_slots_bucket{…,le="2"} 3`, `_slots_bucket{…,le="4"} 3`, `_slots_bucket{…,le="8"} 8`, `_slots_count{…} 15`, `_slots_sum{…} 118.5`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession})
			counted(t, m, waits(test.unit), batchOf(7, waitsOf(0, 1, 0, 5, 7)), batchOf(7, waitsOf(0, 2), waitsOf(0)[:3]))
			var got []string
			for _, line := range scraped(t, m) {
				line = strings.TrimPrefix(line, "nodegadget_session_profile_waits")
				got = append(got, strings.Replace(line, `container="web",gadget="profile_waits",namespace="shop",pod="cart-1",`+own, "…", 1))
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestWhatCannotBeCounted(t *testing.T) {
	snapshot := execSpec()
	snapshot.Source.Kind = gadget.Snapshot
	barren := syscalls()
	barren.Source.Fields = barren.Source.Fields[:3]
	for _, test := range []struct {
		name   string
		spec   *gadget.Spec
		labels []string
		want   string
	}{
		{"a snapshot", snapshot, nil, "nothing to add up"},
		{"a table of identities", barren, nil, "nothing to add up"},
		{"a field that isn't there", execSpec(), []string{"uid"}, `unknown field "uid", known are: timestamp, pid`},
		{"a field twice", execSpec(), []string{"pid", "pid"}, `"pid" stands twice`},
		{"counts", waits(enum("unit", "us")), []string{"slots"}, "slots is a list of counts"},
		{"too many", execSpec(), strings.Split("a,b,c,d,e,f,g,h,i", ","), "9 labels, at most 8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession, Labels: test.labels})
			tp := tape.New(tape.Options{})
			tp.Append(batchOf(0, make([]byte, 64)), nil)
			err := m.Run(t.Context(), headerOf(test.spec), tp.Read(tape.From{}))
			require.ErrorContains(t, err, test.want)
			require.Equal(t, sink.State{Dropped: 1, Err: err}, m.State())
			require.Empty(t, scraped(t, m))
		})
	}
}

// TestSeriesAreBounded: what finds no room is counted all the same.
func TestSeriesAreBounded(t *testing.T) {
	m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession, Labels: []string{"comm"}, MaxSeries: 10})
	var batches []*wire.Batch
	for n := range uint32(1000) {
		batches = append(batches, batchOf(7, thing(n, fmt.Sprint("p", n%100), "")))
	}
	counted(t, m, execSpec(), batches...)
	lines := scraped(t, m)
	require.Len(t, lines, 10)
	total := 0
	for _, line := range lines {
		var n int
		_, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &n)
		require.NoError(t, err)
		total += n
	}
	require.Equal(t, 1000, total)
	require.Contains(t, lines, `nodegadget_session_events_total{comm="other",container="other",gadget="trace_things",namespace="other",pod="other",`+own+`} 910`)
	require.EqualValues(t, 1000, m.State().Written)

	families := gathered(t, m)
	require.Equal(t, "nodegadget_session_overflow_records_total", families[1].GetName())
	require.EqualValues(t, 910, families[1].GetMetric()[0].GetCounter().GetValue())
}

func TestLabelsAreShortAndText(t *testing.T) {
	m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession, Labels: []string{"args"}})
	for _, args := range []string{strings.Repeat("ä", 1000), "\xff\xfe\x00", strings.Repeat("\x1b", 500), strings.Repeat("a", 127) + "漢", "\x00\x00", "a\nb"} {
		counted(t, m, execSpec(), batchOf(7, thing(1, "sh", args)))
		for _, l := range gathered(t, m)[0].GetMetric()[0].GetLabel() {
			require.LessOrEqual(t, len(l.GetValue()), 128)
			require.True(t, utf8.ValidString(l.GetValue()))
			require.NotContains(t, l.GetValue(), "\n")
		}
	}
}

func TestSessionsShareARegistry(t *testing.T) {
	one := sink.NewMetrics(sink.MetricsOptions{Session: shopSession, Labels: []string{"comm"}})
	two := sink.NewMetrics(sink.MetricsOptions{Session: sink.Session{Name: "all", UID: "7"}, Labels: []string{"error", "pid"}})
	three := sink.NewMetrics(sink.MetricsOptions{Session: sink.Session{Name: "calls"}})
	counted(t, one, execSpec(), things(0, 3))
	counted(t, two, execSpec(), things(0, 3))
	counted(t, three, syscalls(), batchOf(7, callsOf(1, 1, 1, 1)))
	require.Len(t, scraped(t, one, two, three), 1+3+3)
}

func TestSeriesOfContainersThatAreGoneAreDropped(t *testing.T) {
	for _, test := range []struct {
		name  string
		alive func(id string) bool
		want  int
	}{
		{"nobody knows", nil, 1},
		{"one is gone", func(id string) bool { return id == "decaf" }, 2},
		{"none is gone", func(string) bool { return true }, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession, Alive: test.alive})
				counted(t, m, execSpec(), things(0, 3), batchOf(8, thing(1, "pay", "")), batchOf(0, thing(2, "init", "")))
				time.Sleep(5*time.Minute - time.Second)
				require.Len(t, scraped(t, m), 3)
				time.Sleep(time.Second)
				require.Len(t, scraped(t, m), test.want)
			})
		})
	}
}

func TestMetricsCountWhatTheyMiss(t *testing.T) {
	m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession})
	tp := tape.New(tape.Options{Records: 100})
	reader := tp.Read(tape.From{})
	for n := uint32(0); n < 1000; n += 50 {
		tp.Append(things(n, n+50), nil)
	}
	tp.Close()
	require.NoError(t, m.Run(t.Context(), headerOf(execSpec()), reader))
	require.Equal(t, sink.State{Written: 100, Dropped: 900}, m.State())
}

func TestMetricsFollow(t *testing.T) {
	m := sink.NewMetrics(sink.MetricsOptions{Session: shopSession})
	tp := tape.New(tape.Options{})
	stop := start(t, m, execSpec(), tp)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			_ = m.State()
			registry := prometheus.NewRegistry()
			registry.MustRegister(m)
			_, _ = registry.Gather()
		}
	}()
	for n := uint32(0); n < 5000; n += 50 {
		tp.Append(things(n, n+50), []*wire.Container{cart()})
	}
	<-done
	settled(t, m, 5000)
	require.NoError(t, stop())
	require.Contains(t, scraped(t, m)[0], " 5000")
}
