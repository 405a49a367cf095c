// SPDX-License-Identifier: Apache-2.0

package print_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// benchSource is trace_open's record: 18 columns, of which three are readable
// twins. Without the built object it is a copy of its layout.
func benchSource(tb testing.TB) gadget.Source {
	tb.Helper()
	object, err := os.ReadFile("../../gadgets/trace_open/gadget.x86_64.o")
	if errors.Is(err, fs.ErrNotExist) {
		return openSource()
	}
	require.NoError(tb, err)
	parsed, err := gadget.Parse(object)
	require.NoError(tb, err)
	return parsed.Spec.Source
}

// batch is how many events arrive together: one Write each.
const batch = 64

func benchmark(b *testing.B, opts print.Options, vary ...int) {
	b.ReportAllocs()
	source := benchSource(b)
	record := encode(b, source, openValues())
	p, err := print.New(io.Discard, event.NewSchema(source, event.Options{BootTime: boot}), opts)
	require.NoError(b, err)
	origin := pod()
	n := 0
	for b.Loop() {
		record[0], record[1], record[2] = byte(n), byte(n>>8), byte(n>>16)
		for _, at := range vary {
			record[at] = byte(n)
		}
		p.Record(origin, record)
		if n++; n%batch == 0 {
			require.NoError(b, p.Flush())
		}
	}
}

func BenchmarkJSON(b *testing.B) { benchmark(b, print.Options{Mode: print.JSON}) }

// BenchmarkJSONMixed has another process with each event: nothing is remembered.
func BenchmarkJSONMixed(b *testing.B) { benchmark(b, print.Options{Mode: print.JSON}, 8, 24) }

func BenchmarkYAML(b *testing.B)    { benchmark(b, print.Options{Mode: print.YAML}) }
func BenchmarkColumns(b *testing.B) { benchmark(b, print.Options{Width: 160, Kubernetes: true}) }
func BenchmarkWide(b *testing.B)    { benchmark(b, print.Options{Mode: print.Wide}) }

// TestNoAllocations is a benchmark's promise as a test.
func TestNoAllocations(t *testing.T) {
	source := openSource()
	record := encode(t, source, openValues())
	execs := layout(gadget.Events, means(gadget.Args, text("args")), means(gadget.Timestamp, number("timestamp", 8)))
	args := encode(t, execs, values{"args": []string{"sh", "-c", "echo ž \x1b"}})
	for _, mode := range []print.Mode{print.Columns, print.Wide, print.JSON, print.YAML, print.None} {
		for _, test := range []struct {
			source gadget.Source
			record []byte
		}{{source, record}, {execs, args}} {
			p, err := print.New(io.Discard, schemaOf(test.source), print.Options{Mode: mode, Width: 80, Kubernetes: true})
			require.NoError(t, err)
			origins := []*print.Origin{pod(), nil}
			print := func() {
				for _, origin := range origins {
					p.Record(origin, test.record)
				}
				require.NoError(t, p.Flush())
			}
			print()
			require.Zero(t, testing.AllocsPerRun(100, print), mode)
		}
	}
}
