// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseSummary(t *testing.T) {
	for text, want := range map[string]summary{
		"0 events, 0 lost\n": {},
		"node vm: BTF\nhook exit: tp_btf\n1,234,567 events, 0 lost\n":                                                    {Events: 1_234_567},
		"12 events, 34 lost (30 in the kernel's buffer, 4 in the agent's queue)\n":                                       {Events: 12, Lost: 34},
		"1 rows, 2 lost (2 in the kernel's buffer, 0 in the agent's queue), 3,000 program runs left out by the kernel\n": {Events: 1, Lost: 2, Skipped: 3000},
		"5 events, 0 lost, 1 program runs left out by the kernel\nkubectl-gadget: done\n":                                {Events: 5, Skipped: 1},
	} {
		got, err := parseSummary(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := parseSummary("kubectl-gadget: killed\n")
	require.ErrorIs(t, err, errNoSummary)
	_, err = parseSummary("99,999,999,999,999,999,999 events, 0 lost\n")
	require.ErrorContains(t, err, "reading the summary")
}

func TestParseLost(t *testing.T) {
	require.EqualValues(t, 44, parseLost("Attaching 1 probe...\nLost 40 events on CPU #1!\nLost 4 events\nlost 5 events\nLost 6 things\n"))
	require.Zero(t, parseLost(""))
}

func TestCount(t *testing.T) {
	const json = `{"pid":1,"comm":"benchopen","path":"x"}
{"pid":2,"parent_comm":"benchopen","comm":"cat","path":"\"comm\":\"benchopen\""}
{"pid":3,"comm":"benchopen2"}
{"pid":4,"comm":"benchopen"}
`
	got, err := count(strings.NewReader(json), member(openComm))
	require.NoError(t, err)
	require.Equal(t, tally{Lines: 4, Matched: 2}, got)

	const columns = "PID    COMM              FD ERR PATH\r\n12     benchopen          3   0 /x\r\n13     benchopenx         3   0 benchopen\nLost 7 events on CPU #0!\n14 ben"
	got, err = count(strings.NewReader(columns), field(1, openComm))
	require.NoError(t, err)
	require.Equal(t, tally{Lines: 4, Matched: 1, Lost: 7, Torn: true}, got)

	_, err = count(strings.NewReader(strings.Repeat("x", 2<<20)), never)
	require.Error(t, err, "a line without end")
}

func TestField(t *testing.T) {
	match := field(2, "c")
	for range 2 {
		require.True(t, match([]byte(" a  b c d")))
		require.False(t, match([]byte("a b d c")))
		require.False(t, match([]byte("a")))
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 31 0 0 20\n")
	require.NoError(t, err)
	require.Equal(t, cpuTime{User: 2500 * time.Millisecond, System: 310 * time.Millisecond}, got)
	for _, text := range []string{"", "12 (a) S 1", "12 (a) S 1 2 3 4 5 6 7 8 9 10 x 31"} {
		_, err := parseStat(text)
		require.ErrorIs(t, err, errFormat)
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n")
	require.NoError(t, err)
	require.Equal(t, memory{Now: 1 << 20, Peak: 2 << 20}, got)
	_, err = parseStatus("VmHWM:\t much\n")
	require.ErrorIs(t, err, errFormat)
}

func TestParseMicro(t *testing.T) {
	got := parseMicro(`goos: linux
pkg: nodegadget.dev/pkg/print
BenchmarkJSON-2   	 1234	      1043 ns/op	       0 B/op	       0 allocs/op
PASS
pkg: nodegadget.dev/test/bench
BenchmarkStream/batch=8-2         	  216105	      1412.5 ns/op	  79.31 MB/s	         1.756 allocs/event
BenchmarkBroken-2
ok  	nodegadget.dev/test/bench	1.810s
`)
	require.Equal(t, []microResult{
		{Package: "nodegadget.dev/pkg/print", Name: "JSON", Metrics: map[string]float64{"ns/op": 1043, "B/op": 0, "allocs/op": 0}},
		{Package: "nodegadget.dev/test/bench", Name: "Stream/batch=8", Metrics: map[string]float64{"ns/op": 1412.5, "MB/s": 79.31, "allocs/event": 1.756}},
	}, got)
	require.Equal(t, "Sort/n-x", benchName("BenchmarkSort/n-x"))
}

func TestCPUModel(t *testing.T) {
	require.Equal(t, "Fast(R) CPU: 3 GHz", cpuModel("processor\t: 0\nmodel name\t: Fast(R) CPU: 3 GHz\nflags: x\n"))
	require.Equal(t, "unnamed processor", cpuModel("processor\t: 0\n"))
}
