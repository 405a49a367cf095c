// SPDX-License-Identifier: Apache-2.0

package print_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile is what a traced process may call itself or a file.
const hostile = "a\x1b[31mred\rb\nc\td\x00\x7f\u0085\u009b2J\u202egnp.exe\u2066\u200d\ufeff\u2028\u2029\xff\xc3e\u0301\u202c\\\"'漢字\U000e0041\u3164end"

// execSource has lists, nested structs, and texts of every kind.
func execSource() gadget.Source {
	return layout(gadget.Events, append(
		taskFields(),
		means(gadget.Args, text("args")),
		wide(20, text("cwd")),
		chars("parent.comm", 16),
		number("parent.pid", 4),
		means(gadget.Errno, number("parent.exit.errno", 4)),
		gadget.Field{Name: "failed", Kind: gadget.Bool},
		gadget.Field{Name: "ret", Kind: gadget.Int, Size: 8},
		gadget.Field{Name: "addr", Kind: gadget.IP},
		means(gadget.Duration, number("took", 8)),
		means(gadget.ByteCount, number("size", 8)),
		means(gadget.Signal, number("signal", 4)),
		means(gadget.Syscall, number("nr", 8)),
		hidden(gadget.Field{Name: "counts", Kind: gadget.Slots, Size: 16, Elem: 4}),
	)...)
}

func execRows(t *testing.T) []print.Row {
	source := execSource()
	plain := values{
		"timestamp": time.Minute, "pid": 10, "comm": "sh", "args": []string{"/bin/sh", "-c", "echo \"hello\" $HOME", "", "it's", `back\slash`, "\t"},
		"cwd": "/root", "parent.comm": "bash", "parent.pid": 9, "ret": 0, "addr": netip.MustParseAddr("10.0.0.1"),
		"took": 1234567 * time.Nanosecond, "size": 1234, "signal": 9, "nr": 59, "counts": []uint64{1, 0, 3, 0},
	}
	failed := values{
		"timestamp": time.Minute + 7*time.Millisecond, "pid": 4294967295, "tid": 4294967295, "comm": "exactly-fifteen",
		"cgroup_id": uint64(1<<64 - 1), "cwd": strings.Repeat("/漢字", 9), "parent.exit.errno": 2, "failed": true, "ret": -2,
		"addr": netip.MustParseAddr("2001:db8::1"), "took": 100 * time.Second, "size": 10 << 30, "signal": 35, "nr": 9999,
	}
	nasty := values{"timestamp": time.Minute, "comm": hostile[:15], "args": []string{hostile, "-"}, "cwd": hostile, "parent.comm": "\x1b]0;owned\a"}
	cut := encode(t, source, plain)[:30]
	origin := &print.Origin{Node: "worker-1", Namespace: "shop", Pod: hostile, Image: "\x1b[2J"}
	return []print.Row{
		{Origin: pod(), Record: encode(t, source, plain)},
		{Record: encode(t, source, failed)},
		{Origin: origin, Record: encode(t, source, nasty)},
		{Origin: pod(), Record: cut},
		{Record: []byte{}},
	}
}

func histogramSource(several bool) gadget.Source {
	fields := []gadget.Field{
		number("pid", 4), chars("comm", 16), hidden(number("cpu", 4)),
		means(gadget.Log2, gadget.Field{Name: "latency", Kind: gadget.Slots, Size: 8 * 64, Elem: 8}),
	}
	if several {
		fields = append(fields, means(gadget.Log2, gadget.Field{Name: "size", Kind: gadget.Slots, Size: 4 * 8, Elem: 4}))
	}
	return layout(gadget.Table, fields...)
}

func histogramRows(t *testing.T, several bool) []print.Row {
	source := histogramSource(several)
	low := values{"pid": 1, "comm": "init\x1b", "latency": []uint64{4, 0, 1000, 250, 1}}
	high := make([]uint64, 64)
	high[62], high[63] = 1<<64-1, 1
	rows := []values{low, {"pid": 2, "comm": "a b", "latency": high}, {"comm": "idle"}}
	if several {
		rows[0]["size"] = []uint64{0, 0, 0, 7}
	}
	var out []print.Row
	for _, v := range rows {
		out = append(out, print.Row{Origin: pod(), Record: encode(t, source, v)})
	}
	return out
}

func topSource() gadget.Source {
	return layout(
		gadget.Table, means(gadget.Syscall, number("nr", 4)), chars("comm", 16), number("count", 8),
		means(gadget.Duration, number("total", 8)), gadget.Field{Name: "state", Kind: gadget.Enum, Values: []gadget.EnumValue{{Name: "RUNNING\x1b"}}},
	)
}

func topRows(t *testing.T) []print.Row {
	var rows []print.Row
	for i, comm := range []string{"postgres", "x", hostile[:15]} {
		v := values{"nr": i, "comm": comm, "count": 1_000_000 >> (i * 8), "total": time.Duration(i) * 1_234_567_890, "state": i}
		rows = append(rows, print.Row{Origin: pod(), Record: encode(t, topSource(), v)})
	}
	return rows
}

func TestGolden(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	open := func(t *testing.T) []print.Row {
		failed := openValues()
		failed["fd"], failed["errno"], failed["path"], failed["pid"] = -1, 13, "/etc/shadow-"+strings.Repeat("x", 200), 123456789
		return []print.Row{
			{Origin: pod(), Record: encode(t, openSource(), openValues())},
			{Origin: pod(), Record: encode(t, openSource(), failed)},
		}
	}
	several := func(t *testing.T) []print.Row { return histogramRows(t, true) }
	single := func(t *testing.T) []print.Row { return histogramRows(t, false) }
	for _, test := range []struct {
		name   string
		source gadget.Source
		rows   func(t *testing.T) []print.Row
		opts   print.Options
	}{
		{"open-columns", openSource(), open, print.Options{}},
		{"open-columns-wide-terminal", openSource(), open, print.Options{Width: 200}},
		{"open-columns-80", openSource(), open, print.Options{Width: 80, Location: berlin}},
		{"open-columns-30", openSource(), open, print.Options{Width: 30}},
		{"open-columns-color", openSource(), open, print.Options{Color: true, Width: 100}},
		{"open-columns-kubernetes", openSource(), open, print.Options{Width: 160, Kubernetes: true}},
		{"open-wide", openSource(), open, print.Options{Mode: print.Wide}},
		{"open-wide-80", openSource(), open, print.Options{Mode: print.Wide, Width: 80}},
		{"open-fields", openSource(), open, print.Options{Fields: []string{"path", "node", "errno", "containerID", "image", "errno"}}},
		{"open-json", openSource(), open, print.Options{Mode: print.JSON}},
		{"open-json-fields", openSource(), open, print.Options{Mode: print.JSON, Fields: []string{"path", "node", "errno", "path"}}},
		{"open-none", openSource(), open, print.Options{Mode: print.None}},
		{"exec-columns", execSource(), execRows, print.Options{Kubernetes: true}},
		{"exec-columns-120", execSource(), execRows, print.Options{Width: 120}},
		{"exec-wide", execSource(), execRows, print.Options{Mode: print.Wide, Kubernetes: true}},
		{"exec-args", execSource(), execRows, print.Options{Width: 60, Fields: []string{"pid", "args"}}},
		{"exec-json", execSource(), execRows, print.Options{Mode: print.JSON, Location: berlin}},
		{"exec-json-fields", execSource(), execRows, print.Options{Mode: print.JSON, Fields: []string{"parent.pid", "ret", "parent.exit.error"}}},
		{"exec-yaml", execSource(), execRows, print.Options{Mode: print.YAML}},
		{"histogram", histogramSource(false), single, print.Options{}},
		{"histogram-narrow", histogramSource(false), single, print.Options{Width: 36}},
		{"histogram-wide-kubernetes", histogramSource(false), single, print.Options{Mode: print.Wide, Kubernetes: true}},
		{"histogram-several", histogramSource(true), several, print.Options{}},
		{"histogram-fields", histogramSource(true), several, print.Options{Fields: []string{"comm", "size"}}},
		{"histogram-json", histogramSource(true), several, print.Options{Mode: print.JSON}},
		{"histogram-yaml", histogramSource(true), several, print.Options{Mode: print.YAML}},
		{"top-columns", topSource(), topRows, print.Options{}},
		{"top-columns-40", topSource(), topRows, print.Options{Width: 40, Fields: []string{"nr_name", "comm", "state", "total"}}},
		{"top-wide", topSource(), topRows, print.Options{Mode: print.Wide, Kubernetes: true, Color: true}},
		{"top-json", topSource(), topRows, print.Options{Mode: print.JSON}},
	} {
		t.Run(test.name, func(t *testing.T) {
			golden(t, test.name, show(t, test.source, test.opts, test.rows(t)...))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
