// SPDX-License-Identifier: Apache-2.0

package print_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// requireSafe fails if the text could do anything on a terminal but fill lines.
func requireSafe(t *testing.T, out string) {
	t.Helper()
	require.True(t, utf8.ValidString(out), "%q isn't UTF-8", out)
	for _, r := range out {
		bad := r < ' ' && r != '\n' || r >= 0x7f && r <= 0x9f ||
			r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r >= 0x200b && r <= 0x200f ||
			r == 0x61c || r == 0x2028 || r == 0x2029 || r == 0xfeff
		if bad {
			require.Fail(t, "unsafe output", "%U in %q", r, out)
		}
	}
}

// fuzzSources are of every shape; name is hostile, as a user's gadget might be.
func fuzzSources(name string) []gadget.Source {
	slots := means(gadget.Log2, gadget.Field{Name: "slots", Kind: gadget.Slots, Size: 64, Elem: 4})
	enum := gadget.Field{Name: "enum", Kind: gadget.Enum, Size: 2, Values: []gadget.EnumValue{{Name: name, Value: 1}, {Name: "", Value: 2}}}
	return []gadget.Source{
		openSource(),
		execSource(),
		layout(gadget.Events, number(name, 4), text(name+".x"), chars("comm", 9), enum, slots),
		layout(gadget.Table, chars(name, 9), text("text"), slots, enum),
		layout(gadget.Snapshot, chars("comm", 9), enum, number(name, 1), wide(math.MaxInt, text("text")), wide(-1, text("more"))),
	}
}

func FuzzPrint(f *testing.F) {
	for source := range uint8(5) {
		f.Add(source, uint8(0), uint16(0), true, hostile, []byte(hostile))
		f.Add(source, uint8(1), uint16(33), false, "x", bytes.Repeat([]byte{0xff, 0, 1}, 50))
		f.Add(source, uint8(2), uint16(1), false, "\x1b\"", []byte{})
		f.Add(source, uint8(3), uint16(200), true, "null", bytes.Repeat([]byte{72, 0}, 80))
	}
	f.Fuzz(func(t *testing.T, which, mode uint8, width uint16, kubernetes bool, name string, record []byte) {
		sources := fuzzSources(name)
		source := sources[int(which)%len(sources)]
		opts := print.Options{Mode: print.Mode(mode % 4), Width: int(width), Kubernetes: kubernetes, Location: time.UTC}
		schema := event.NewSchema(source, event.Options{BootTime: boot})
		var out strings.Builder
		p, err := print.New(&out, schema, opts)
		if err != nil {
			return // the name is another field's
		}
		origin := &print.Origin{Node: name, Pod: string(record), Image: name}
		rows := []print.Row{{Origin: origin, Record: record}, {Record: record[:len(record)/2]}}
		if source.Kind == gadget.Events {
			for _, row := range rows {
				p.Record(row.Origin, row.Record)
			}
			require.NoError(t, p.Flush())
		} else {
			require.NoError(t, p.Interval(rows))
		}
		requireSafe(t, out.String())
		if opts.Mode == print.JSON {
			requireJSON(t, out.String(), len(rows))
		}
	})
}

func requireJSON(t *testing.T, out string, rows int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	require.Len(t, lines, rows)
	for _, line := range lines {
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &object), line)
		require.Contains(t, object, "containerID")
	}
}

// FuzzEscape checks that texts survive JSON, and that nothing survives Escape.
func FuzzEscape(f *testing.F) {
	for _, text := range []string{"", "plain", hostile, "\xed\xa0\x80", "\U0010ffff", strings.Repeat("x", 15) + "\x7f"} {
		f.Add(text)
	}
	source := layout(gadget.Events, text("text"))
	f.Fuzz(func(t *testing.T, text string) {
		requireSafe(t, print.Escape(text))
		require.NotContains(t, print.Escape(text), "\n")
		if len(text) > math.MaxUint16-4 {
			return
		}
		row := print.Row{Record: encode(t, source, values{"text": text})}
		var object struct{ Text string }
		require.NoError(t, json.Unmarshal([]byte(show(t, source, print.Options{Mode: print.JSON}, row)), &object))
		require.Equal(t, eachInvalid(text), object.Text)
	})
}

// eachInvalid replaces every byte that isn't UTF-8, as ranging over a string does.
func eachInvalid(text string) string {
	var b strings.Builder
	for _, r := range text {
		b.WriteRune(r)
	}
	return b.String()
}
