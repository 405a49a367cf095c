// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
)

// filterBoot is the boot time of the node in these tests.
var filterBoot = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// builtin is the source of a built-in gadget.
func builtin(tb testing.TB, name string) gadget.Source {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("../../gadgets", name, "gadget.x86_64.o"))
	require.NoError(tb, err, "no object: run make objects")
	object, err := gadget.Parse(raw)
	require.NoError(tb, err)
	return object.Spec.Source
}

func filterSchema(source gadget.Source) *Schema {
	return NewSchema(source, Options{Arch: "x86_64", BootTime: filterBoot})
}

// fields are values by field name; what isn't named is zero.
type fields map[string]any

// pack writes a record as a kernel program would.
func pack(tb testing.TB, source gadget.Source, values fields) []byte {
	tb.Helper()
	record := make([]byte, source.Size)
	known := 0
	for _, f := range source.Fields {
		value, ok := values[f.Name]
		if !ok {
			continue
		}
		known++
		slot := record[f.Offset : f.Offset+f.Size]
		switch v := value.(type) {
		case int:
			putNumber(slot, uint64(v))
		case uint64:
			putNumber(slot, v)
		case bool:
			if v {
				slot[0] = 1
			}
		case netip.Addr:
			family := uint32(10)
			if v.Is4() {
				family = 2
			}
			binary.LittleEndian.PutUint32(slot, family)
			copy(slot[4:], v.AsSlice())
		case []uint64:
			for i, n := range v {
				putNumber(slot[i*int(f.Elem):(i+1)*int(f.Elem)], n)
			}
		case string:
			if f.Kind == gadget.String {
				copy(slot, v)
				continue
			}
			binary.LittleEndian.PutUint16(slot, uint16(len(record)))
			binary.LittleEndian.PutUint16(slot[2:], uint16(len(v)))
			record = append(record, v...)
		default:
			require.Failf(tb, "value", "field %s: %T", f.Name, value)
		}
	}
	require.Equal(tb, len(values), known, "a field isn't the gadget's: %v", values)
	return record
}

func putNumber(slot []byte, n uint64) {
	for i := range slot {
		slot[i] = byte(n >> (8 * i))
	}
}

// opened is a call of open that failed.
func opened(tb testing.TB, source gadget.Source) []byte {
	return pack(tb, source, fields{
		"timestamp": uint64(90 * time.Second), "cgroup_id": uint64(4711), "mntns_id": uint64(math.MaxUint64), "pid": 100, "tid": 101,
		"uid": 1000, "comm": "cat", "fd": -1, "errno": 2, "flags": 0o2000000, "path": "/etc/shadow", "path_from": 1,
	})
}

// signalled is a SIGKILL from one process to another.
func signalled(tb testing.TB, source gadget.Source) []byte {
	return pack(tb, source, fields{
		"pid": 1, "comm": "init", "signal": 9, "code": -6, "result": 0, "group": true,
		"target.pid": 4242, "target.tid": 4243, "target.comm": "victim", "target.cgroup_id": uint64(1) << 63,
	})
}

// matches is what a filter says of the records of trace_open and trace_signal.
var matches = []struct {
	gadget, expr string
	want         bool
}{
	{"trace_open", `pid == 100`, true},
	{"trace_open", `pid == 101`, false},
	{"trace_open", `100 == pid`, true},
	{"trace_open", `pid != 100`, false},
	{"trace_open", `pid > 99 && pid < 101`, true},
	{"trace_open", `99 < pid && 101 > pid`, true},
	{"trace_open", `pid >= 100 && pid <= 100`, true},
	{"trace_open", `100 <= pid && 100 >= pid`, true},
	{"trace_open", `100 < pid`, false},
	{"trace_open", `pid == -1`, false},
	{"trace_open", `pid > -1`, true},
	{"trace_open", `fd == -1`, true},
	{"trace_open", `fd < 0`, true},
	{"trace_open", `fd > 4294967290`, false},
	{"trace_open", `comm == "cat"`, true},
	{"trace_open", `comm == "ca"`, false},
	{"trace_open", `comm == "cat\x00"`, false},
	{"trace_open", `comm != "cat"`, false},
	{"trace_open", `"cat" == comm`, true},
	{"trace_open", `comm < "cau" && comm > "caa"`, true},
	{"trace_open", `comm >= "cat" && comm <= "cat"`, true},
	{"trace_open", `comm.startsWith("c")`, true},
	{"trace_open", `comm.startsWith("")`, true},
	{"trace_open", `comm.endsWith("at") && comm.contains("a")`, true},
	{"trace_open", `comm.startsWith("cats")`, false},
	{"trace_open", `comm.matches("^c.t$")`, true},
	{"trace_open", `comm.size() == 3`, true},
	{"trace_open", `comm in ["dog", "cat"]`, true},
	{"trace_open", `comm in ["dog"]`, false},
	{"trace_open", `comm == "cat" && errno != 0`, true},
	{"trace_open", `comm == "cat" && errno == 0`, false},
	{"trace_open", `errno in [1, 2, 13]`, true},
	{"trace_open", `error == "ENOENT"`, true},
	{"trace_open", `error == ""`, false},
	{"trace_open", `flags_names.contains("O_CLOEXEC")`, true},
	{"trace_open", `path_from == "KERNEL_COPY"`, true},
	{"trace_open", `path.startsWith("/etc/") && !path.endsWith(".conf")`, true},
	{"trace_open", `full_path == ""`, true},
	{"trace_open", `uid == 0 || uid == 1000`, true},
	{"trace_open", `!(uid == 0)`, true},
	{"trace_open", `uid == pid * 10`, true},
	{"trace_open", `tid - pid == 1`, true},
	{"trace_open", `tid == pid`, false},
	{"trace_open", `pid < 101u && pid < 100.5`, true},
	{"trace_open", `cgroup_id == 4711`, true},
	{"trace_open", `timestamp > timestamp("2026-03-01T12:01:29Z") && timestamp < timestamp("2026-03-01T12:01:31Z")`, true},
	{"trace_open", `timestamp < timestamp("2026-03-01T12:00:00Z")`, false},
	{"trace_open", `timestamp.getFullYear() == 2026`, true},
	{"trace_open", `true`, true},
	{"trace_open", `false`, false},
	{"trace_open", `pid == 100 ? comm == "cat" : false`, true},
	// Numbers that CEL's int doesn't hold.
	{"trace_open", `mntns_id > 9223372036854775807`, true},
	{"trace_open", `mntns_id >= 9223372036854775807`, true},
	{"trace_open", `mntns_id == 9223372036854775807`, false},
	{"trace_open", `mntns_id != 9223372036854775807`, true},
	{"trace_open", `mntns_id < 9223372036854775807`, false},
	{"trace_open", `mntns_id > 0 && mntns_id > -1`, true},
	{"trace_open", `mntns_id == -1`, false},
	{"trace_open", `mntns_id >= 18446744073709551615u`, true},
	{"trace_open", `pid == 9223372036854775807`, false},
	{"trace_signal", `target.cgroup_id >= 9223372036854775808u && target.cgroup_id < 9223372036854775809u`, true},
	{"trace_signal", `target.cgroup_id < 0`, false},
	// Names with dots are one column.
	{"trace_signal", `target.pid == 4242`, true},
	{"trace_signal", `target.pid != 4242`, false},
	{"trace_signal", `4242 == target.pid`, true},
	{"trace_signal", `pid == 1 && target.comm == "victim"`, true},
	{"trace_signal", `target.comm.startsWith("vic")`, true},
	{"trace_signal", `target.tid - target.pid == 1`, true},
	{"trace_signal", `target.pid in [1, 4242]`, true},
	{"trace_signal", `group`, true},
	{"trace_signal", `!group`, false},
	{"trace_signal", `group == true`, true},
	{"trace_signal", `group && signal == 9`, true},
	{"trace_signal", `group || signal == 0`, true},
	{"trace_signal", `code == -6 && code < 0`, true},
	{"trace_signal", `signal_name == "SIGKILL"`, true},
	{"trace_signal", `result == "DELIVERED"`, true},
}

func recordOf(tb testing.TB, name string) (*Schema, []byte) {
	source := builtin(tb, name)
	if name == "trace_open" {
		return filterSchema(source), opened(tb, source)
	}
	return filterSchema(source), signalled(tb, source)
}

// slow compiles expr so that CEL evaluates all of it.
func slow(tb testing.TB, schema *Schema, expr string) *Filter {
	tb.Helper()
	f, err := CompileFilter(schema, "("+expr+"\n) || false")
	require.NoError(tb, err)
	require.Empty(tb, f.fast)
	require.NotNil(tb, f.rest)
	return f
}

func TestFilterMatches(t *testing.T) {
	for _, test := range matches {
		t.Run(test.expr, func(t *testing.T) {
			schema, record := recordOf(t, test.gadget)
			f, err := CompileFilter(schema, test.expr)
			require.NoError(t, err)
			require.Equal(t, test.want, f.Match(record))
			require.Equal(t, test.want, f.Match(record), "the second time")
			require.Equal(t, test.want, slow(t, schema, test.expr).Match(record), "evaluated by CEL")
		})
	}
}

// TestFastPathIsTaken: these are the filters that people write.
func TestFastPathIsTaken(t *testing.T) {
	schema := filterSchema(builtin(t, "trace_open"))
	for expr, want := range map[string]struct {
		fast int
		rest bool
	}{
		`pid == 1`:                    {1, false},
		`comm == "cat" && errno != 0`: {2, false},
		`comm == "cat" && (errno != 0 && pid > 5)`:  {3, false},
		`path.startsWith("/etc/")`:                  {1, false},
		`comm == "cat" && path.matches("^/etc/.*")`: {1, true},
		`pid == 1 || pid == 2`:                      {0, true},
		`pid == tid`:                                {0, true},
		`true`:                                      {0, true},
	} {
		f, err := CompileFilter(schema, expr)
		require.NoError(t, err)
		require.Len(t, f.fast, want.fast, expr)
		require.Equal(t, want.rest, f.rest != nil, expr)
	}
	schema = filterSchema(builtin(t, "trace_signal"))
	for _, expr := range []string{`target.pid == 1`, `!group`, `group`, `target.comm.contains("a")`} {
		f, err := CompileFilter(schema, expr)
		require.NoError(t, err)
		require.Len(t, f.fast, 1, expr)
		require.Nil(t, f.rest, expr)
	}
}

// TestRecordWithoutTheValueDoesNotMatch cuts the record: a comparison with
// nothing is never true, not even !=.
func TestRecordWithoutTheValueDoesNotMatch(t *testing.T) {
	schema := filterSchema(builtin(t, "trace_signal"))
	for _, expr := range []string{
		`target.pid == 0`, `target.pid != 5`, `target.pid < 5`, `target.comm != "x"`, `target.comm == ""`, `!group`, `group`,
		`target.comm.startsWith("")`, `!target.comm.startsWith("x")`, `!(target.pid == 5)`, `timestamp > timestamp(0)`, `result != "x"`,
	} {
		for _, record := range [][]byte{nil, {}, make([]byte, 7)} {
			f, err := CompileFilter(schema, expr)
			require.NoError(t, err)
			require.False(t, f.Match(record), expr)
			require.False(t, slow(t, schema, expr).Match(record), "%s, evaluated by CEL", expr)
		}
	}
	// What isn't needed may be missing.
	f, err := CompileFilter(schema, `pid == 0 || target.pid == 1`)
	require.NoError(t, err)
	require.True(t, f.Match(make([]byte, 32)))
}

func TestTextsAreComparedByteByByte(t *testing.T) {
	source := builtin(t, "trace_open")
	schema := filterSchema(source)
	record := pack(t, source, fields{"comm": "a\xffb\x1b", "path": "\xc3\xa4/\xe2\x82"})
	for expr, want := range map[string]bool{
		`comm.startsWith("a")`:      true,
		`comm == "a\ufffdb\x1b"`:    false,
		`comm.contains("\ufffd")`:   false,
		`comm.endsWith("b\x1b")`:    true,
		`path.startsWith("\u00e4")`: true,
		`path == "\u00e4/"`:         false,
	} {
		f, err := CompileFilter(schema, expr)
		require.NoError(t, err)
		require.Equal(t, want, f.Match(record), expr)
		require.Equal(t, want, slow(t, schema, expr).Match(record), "%s, evaluated by CEL", expr)
	}
}

// TestEveryKindCanBeFilteredBy has one field of each kind.
func TestEveryKindCanBeFilteredBy(t *testing.T) {
	source := gadget.Source{Kind: gadget.Events, Fields: []gadget.Field{
		{Name: "n", Kind: gadget.Uint, Size: 4},
		{Name: "i", Kind: gadget.Int, Size: 4},
		{Name: "b", Kind: gadget.Bool, Size: 1},
		{Name: "s", Kind: gadget.String, Size: 8},
		{Name: "e", Kind: gadget.Enum, Size: 4, Values: []gadget.EnumValue{{Name: "ON", Value: 1}}},
		{Name: "addr", Kind: gadget.IP, Size: 20},
		{Name: "slots", Kind: gadget.Slots, Size: 24, Elem: 8, Semantic: gadget.Log2},
		{Name: "text", Kind: gadget.Tail, Size: 4},
		{Name: "args", Kind: gadget.Tail, Size: 4, Semantic: gadget.Args},
		{Name: "at", Kind: gadget.Uint, Size: 8, Semantic: gadget.Timestamp},
	}}
	for i := range source.Fields {
		source.Fields[i].Offset = source.Size
		source.Size += source.Fields[i].Size
	}
	schema := filterSchema(source)
	record := pack(t, source, fields{
		"n": 1, "i": -1, "b": true, "s": "text", "e": 1, "addr": netip.MustParseAddr("10.1.2.3"),
		"slots": []uint64{0, 7, math.MaxUint64}, "text": "long text", "args": "ls\x00-l\x00\x00", "at": uint64(time.Hour),
	})
	for expr, want := range map[string]bool{
		`n == 1 && i == -1 && b && s == "text" && e == "ON"`: true,
		`addr == "10.1.2.3"`:                                        true,
		`addr.startsWith("10.")`:                                    true,
		`slots[1] == 7 && slots.size() == 3`:                        true,
		`slots[2] == 9223372036854775807`:                           true,
		`slots.exists(n, n == 7)`:                                   true,
		`slots[3] == 0`:                                             false,
		`slots[-1] == 0`:                                            false,
		`text.contains("ng te")`:                                    true,
		`args[0] == "ls" && args.size() == 3`:                       true,
		`args.exists(a, a == "-l")`:                                 true,
		`args.exists(s, s == "text")`:                               false,
		`"-l" in args`:                                              true,
		`args.all(a, a == "ls")`:                                    false,
		`args[9] == "x"`:                                            false,
		`at == timestamp("2026-03-01T13:00:00Z")`:                   true,
		`at - timestamp("2026-03-01T12:59:00Z") == duration("60s")`: true,
		`n / (n - 1) == 0`:                                          false,
	} {
		f, err := CompileFilter(schema, expr)
		require.NoError(t, err, expr)
		require.Equal(t, want, f.Match(record), expr)
	}
}

func TestFilterErrorsAreOneLineThatHelps(t *testing.T) {
	schema := filterSchema(builtin(t, "trace_open"))
	for _, test := range []struct{ name, expr, want string }{
		{"unknown field", `pidd == 1`, `filter: unknown field "pidd", known are: timestamp, cgroup_id, mntns_id, pid, tid, uid, gid, comm, fd, errno, error, `},
		{"unknown nested field", `target.pid == 1`, `filter: unknown field "target`},
		{"unknown function", `comm.startswith("x")`, `filter: unknown function "startswith"; CEL has contains, startsWith,`},
		{"empty", ``, "filter: "},
		{"blank", "  \n", "filter: "},
		{"incomplete", `pid ==`, "filter: 1:7: Syntax error"},
		{"unbalanced", `(pid == 1`, "filter: 1:10: Syntax error"},
		{"assignment", `pid = 1`, "filter: 1:5: Syntax error"},
		{"not boolean", `pid + 1`, `filter "pid + 1" gives a int, want true or false`},
		{"text", `comm`, `filter "comm" gives a string, want true or false`},
		{"number with text", `pid == "1"`, "filter: 1:5: found no matching overload for '_==_'"},
		{"text with number", `comm > 1`, "filter: 1:6: found no matching overload for '_>_'"},
		{"too long", strings.Repeat("x", MaxFilter+1), "filter has 4097 bytes, at most 4096 are allowed"},
		{"two lines", "pid ==\n\x1b[2J", "filter: "},
		{"deep", strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), "filter: "},
		{"bad escape", `comm == "\q"`, "filter: "},
		{"invalid UTF-8", "comm == \"\xff\"", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := CompileFilter(schema, test.expr)
			if test.want == "" && err == nil {
				return
			}
			require.Error(t, err)
			require.Nil(t, f)
			require.Contains(t, err.Error(), test.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "\x1b")
		})
	}
}

// TestCostOfAnEvaluationIsLimited: an agent must not be slowed down by a filter.
func TestCostOfAnEvaluationIsLimited(t *testing.T) {
	source := builtin(t, "trace_open")
	schema := filterSchema(source)
	list := "[" + strings.Repeat("0,", 150) + "0]"
	expr := fmt.Sprintf("%s.all(a, %s.all(b, %s.all(c, a + b + c == 0)))", list, list, list)
	f, err := CompileFilter(schema, expr)
	require.NoError(t, err)
	begin := time.Now()
	require.False(t, f.Match(opened(t, source)), "an evaluation that is cut off must not match")
	require.Less(t, time.Since(begin), 5*time.Second)
	// The next one starts from nothing.
	cheap, err := CompileFilter(schema, `[1, 2].all(a, a > 0)`)
	require.NoError(t, err)
	for range 1000 {
		require.True(t, cheap.Match(opened(t, source)))
	}
}

func TestFastFilterDoesNotAllocate(t *testing.T) {
	schema, record := recordOf(t, "trace_open")
	f, err := CompileFilter(schema, fastExpr)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { f.Match(record) }))
}

const (
	fastExpr = `comm == "cat" && errno != 0 && path.startsWith("/etc/")`
	celExpr  = `comm in ["cat", "dog"] && (errno != 0 || uid == 0)`
)

func BenchmarkFilter(b *testing.B) {
	for _, bench := range []struct{ name, expr string }{
		{"fast", fastExpr}, {"fast rejects", `pid == 1 && ` + fastExpr}, {"cel", celExpr}, {"cel behind fast", `comm == "dog" && ` + celExpr},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			schema, record := recordOf(b, "trace_open")
			f, err := CompileFilter(schema, bench.expr)
			require.NoError(b, err)
			for b.Loop() {
				f.Match(record)
			}
		})
	}
}

// FuzzFilter: no expression and no record makes it panic, and CEL says the same
// as the fast path.
func FuzzFilter(f *testing.F) {
	open, signal := builtin(f, "trace_open"), builtin(f, "trace_signal")
	for _, test := range matches {
		f.Add(test.expr, opened(f, open))
		f.Add(test.expr, signalled(f, signal))
	}
	f.Fuzz(func(t *testing.T, expr string, record []byte) {
		for _, source := range []gadget.Source{open, signal} {
			schema := filterSchema(source)
			filter, err := CompileFilter(schema, expr)
			require.Equal(t, err == nil, filter != nil)
			if err != nil {
				require.NotContains(t, err.Error(), "\n")
				continue
			}
			got := filter.Match(record)
			all, err := CompileFilter(schema, "("+expr+"\n) || false")
			if err != nil {
				// Too long, or too deep, with what was added.
				continue
			}
			require.Equal(t, all.Match(record), got, "%q", expr)
		}
	})
}
