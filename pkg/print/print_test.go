// SPDX-License-Identifier: Apache-2.0

package print_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

func TestParseMode(t *testing.T) {
	for _, mode := range []print.Mode{print.Columns, print.Wide, print.JSON, print.YAML, print.None} {
		parsed, err := print.ParseMode(mode.String())
		require.NoError(t, err)
		require.Equal(t, mode, parsed)
	}
	_, err := print.ParseMode("jsonl")
	require.EqualError(t, err, `unknown output mode "jsonl", allowed are: columns, wide, json, yaml, none`)
	require.Equal(t, "mode(200)", print.Mode(200).String())
}

func TestNewRefuses(t *testing.T) {
	deep := strings.Repeat("a.", 20) + "a"
	for _, test := range []struct {
		name   string
		source gadget.Source
		opts   print.Options
		want   string
	}{
		{"unknown field", topSource(), print.Options{Fields: []string{"comm", "pod", "nope"}}, `unknown field "nope", known are: nr, nr_name`},
		{"unknown field as JSON", topSource(), print.Options{Mode: print.JSON, Fields: []string{"nope"}}, `unknown field "nope"`},
		{"origin's name", layout(gadget.Events, number("pod", 4)), print.Options{Mode: print.JSON}, `field "pod" has the name of another one`},
		{"below an origin's name", layout(gadget.Events, number("pod.id", 4)), print.Options{Mode: print.YAML}, `field "pod.id" has the name of another one`},
		{"twice", layout(gadget.Events, number("a", 4), number("a", 4)), print.Options{Mode: print.JSON}, `field "a" has the name of another one`},
		{"object and value", layout(gadget.Events, number("a.b", 4), number("a", 4)), print.Options{Mode: print.JSON}, `field "a" has the name of another one`},
		{"too deep", layout(gadget.Events, number(deep, 4)), print.Options{Mode: print.JSON}, `is nested more than 16 deep`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := print.New(io.Discard, schemaOf(test.source), test.opts)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// writes counts and keeps what it is given.
type writes struct {
	calls int
	text  strings.Builder
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	w.calls++
	w.text.Write(p)
	return len(p), w.err
}

func TestFlushIsOneWrite(t *testing.T) {
	source := openSource()
	record := encode(t, source, openValues())
	for mode, empty := range map[print.Mode]int{print.Columns: 1, print.Wide: 1, print.JSON: 0, print.YAML: 0, print.None: 0} {
		w := &writes{}
		p, err := print.New(w, schemaOf(source), print.Options{Mode: mode})
		require.NoError(t, err)
		require.Zero(t, w.calls, "New wrote")
		require.NoError(t, p.Flush())
		require.Equal(t, empty, w.calls, "%s: a table's header alone", mode)
		if mode == print.None {
			continue
		}
		for range 3 {
			p.Record(pod(), record)
		}
		require.Equal(t, empty, w.calls)
		require.NoError(t, p.Flush())
		require.Equal(t, empty+1, w.calls)
	}
}

func TestWriteError(t *testing.T) {
	full := errors.New("disk full")
	w := &writes{err: full}
	p, err := print.New(w, schemaOf(topSource()), print.Options{})
	require.NoError(t, err)
	require.ErrorIs(t, p.Interval(topRows(t)), full)
	w.err = nil
	require.NoError(t, p.Flush())
	require.Equal(t, 1, w.calls, "what couldn't be written isn't kept")
}

// TestRecordOfTable shows that a table's records may also be streamed.
func TestRecordOfTable(t *testing.T) {
	var out strings.Builder
	p, err := print.New(&out, schemaOf(topSource()), print.Options{Fields: []string{"comm", "count"}})
	require.NoError(t, err)
	require.NoError(t, p.Flush())
	require.Empty(t, out.String())
	for _, row := range topRows(t)[:2] {
		p.Record(row.Origin, row.Record)
	}
	require.NoError(t, p.Flush())
	require.Equal(t, []string{"COMM", "COUNT", "postgres", "1000000", "x", "3906"}, strings.Fields(out.String()))
}

// TestIntervals shows that columns only grow, that every interval has its header,
// and that a blank line stands between any two.
func TestIntervals(t *testing.T) {
	source := layout(gadget.Snapshot, number("pid", 4), chars("comm", 16), number("rss", 8))
	rows := func(comms ...string) []print.Row {
		var rows []print.Row
		for i, comm := range comms {
			rows = append(rows, print.Row{Record: encode(t, source, values{"pid": 10 * i, "comm": comm, "rss": 7})})
		}
		return rows
	}
	var out strings.Builder
	p, err := print.New(&out, schemaOf(source), print.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Interval(rows("sh", "x")))
	require.NoError(t, p.Interval(rows("postgres")))
	require.NoError(t, p.Interval(nil))
	require.NoError(t, p.Interval(rows("x")))
	require.Equal(t, strings.TrimLeft(`
PID COMM RSS
  0 sh     7
 10 x      7

PID COMM     RSS
  0 postgres   7

PID COMM     RSS

PID COMM     RSS
  0 x          7
`, "\n"), out.String())
}

// TestStreamKeepsWidths shows that a line's columns begin where the header's do.
func TestStreamKeepsWidths(t *testing.T) {
	out := show(t, openSource(), print.Options{Width: 100}, print.Row{Record: encode(t, openSource(), openValues())},
		print.Row{Record: encode(t, openSource(), values{"comm": "漢字"})}, print.Row{})
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	require.Len(t, lines, 4)
	for _, line := range lines[1:] {
		require.Equal(t, strings.Index(lines[0], " COMM"), len(line[:strings.LastIndex(line[:22], " ")]), line)
	}
}

// TestYAMLIsJSON shows that both forms have the same keys and values.
func TestYAMLIsJSON(t *testing.T) {
	rows := execRows(t)
	hostileButFlat := &print.Origin{Pod: strings.ReplaceAll(hostile, "\U000e0041", ""), Node: "null", Container: "1"}
	rows[2].Origin = hostileButFlat
	rows[2].Record = encode(t, execSource(), values{"comm": "yes", "cwd": hostileButFlat.Pod, "args": []string{"a: b", "- c", "#"}})
	for _, row := range rows {
		require.YAMLEq(t, show(t, execSource(), print.Options{Mode: print.JSON}, row), show(t, execSource(), print.Options{Mode: print.YAML}, row))
	}
	odd := layout(gadget.Events, number("y", 4), number("a.NULL", 4), number("a.b c", 4), number("1\x1b", 4))
	row := print.Row{Record: encode(t, odd, values{"y": 1, "a.NULL": 2, "a.b c": 3, "1\x1b": 4})}
	require.YAMLEq(t, show(t, odd, print.Options{Mode: print.JSON}, row), show(t, odd, print.Options{Mode: print.YAML}, row))
}

// TestJSONKeys pins the order that consumers were promised, and that members of
// one object stand together wherever the schema has them.
func TestJSONKeys(t *testing.T) {
	source := layout(gadget.Events, number("a.x", 4), number("b", 4), means(gadget.Timestamp, number("timestamp", 8)),
		number("a.y", 4), means(gadget.Timestamp, number("started", 8)))
	row := print.Row{Record: encode(t, source, values{"timestamp": time.Nanosecond, "started": time.Second, "b": 7})}
	require.Equal(t, `{"node":"","namespace":"","pod":"","container":"","containerID":"","image":"",`+
		`"timestamp":"2026-11-03T12:00:00.000000001Z","a":{"x":0,"y":0},"b":7,"started":"2026-11-03T12:00:01.000000000Z"}`+"\n",
		show(t, source, print.Options{Mode: print.JSON}, row))
}

// TestOriginChanges shows that no record gets the origin of the one before.
func TestOriginChanges(t *testing.T) {
	source := layout(gadget.Events, number("pid", 4))
	a, b := &print.Origin{Node: "n", Pod: "a"}, &print.Origin{Node: "n", Pod: "b"}
	rows := []print.Row{{}, {Origin: a}, {Origin: a}, {Origin: b}, {}, {Origin: &print.Origin{Pod: "a"}}}
	want := []string{"", "a", "a", "b", "", "a"}
	lines := strings.Split(show(t, source, print.Options{Fields: []string{"pod"}}, rows...), "\n")
	require.Equal(t, want, lines[1:len(want)+1])
	out := json.NewDecoder(strings.NewReader(show(t, source, print.Options{Mode: print.JSON}, rows...)))
	for i := range rows {
		var object struct{ Pod string }
		require.NoError(t, out.Decode(&object))
		require.Equal(t, want[i], object.Pod)
	}
}
