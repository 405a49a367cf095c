// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
)

func TestBufferSizeIsAPowerOfTwoOfPages(t *testing.T) {
	page := os.Getpagesize()
	for _, test := range []struct {
		given int
		want  uint32
	}{
		{0, DefaultBufferSize},
		{1, uint32(page)},
		{page - 1, uint32(page)},
		{page, uint32(page)},
		{page + 1, uint32(2 * page)},
		{3 * page, uint32(4 * page)},
		{100_000, 1 << 17},
		{DefaultBufferSize, DefaultBufferSize},
		{MaxBufferSize/2 + 1, MaxBufferSize},
		{MaxBufferSize - 1, MaxBufferSize},
		{MaxBufferSize, MaxBufferSize},
	} {
		got, err := Options{BufferSize: test.given}.bufferSize()
		require.NoError(t, err)
		require.Equal(t, test.want, got, test.given)
	}
	for _, given := range []int{-1, math.MinInt, MaxBufferSize + 1, math.MaxInt} {
		_, err := Options{BufferSize: given}.bufferSize()
		require.EqualError(t, err, fmt.Sprintf("buffer size of %d bytes, want 1 to 268435456", given))
	}
}

func TestOptionsAreCheckedWithoutAKernel(t *testing.T) {
	spec := &gadget.Spec{
		Name:   "trace_x",
		Params: []gadget.Param{{Name: "pid", Kind: gadget.Uint, Size: 4}},
		Groups: []gadget.Group{
			{Name: "exit", Alternatives: []gadget.Alternative{{Name: "fexit"}, {Name: "kprobe"}}},
			{Name: "name", Alternatives: []gadget.Alternative{{Name: "fentry"}}},
		},
	}
	for _, test := range []struct {
		name string
		opts Options
		want string
	}{
		{"none", Options{}, ""},
		{"all", Options{
			Params: map[string]string{"pid": "1"}, BufferSize: 4096, Interval: MinInterval, Alternatives: map[string]string{"exit": "kprobe", "name": "fentry"},
		}, ""},
		{"short interval", Options{Interval: time.Millisecond}, "interval of 1ms, want at least 10ms"},
		{"negative interval", Options{Interval: -time.Second}, "interval of -1s, want at least 10ms"},
		{"unknown hierarchy", Options{Cgroups: CgroupV1Memory + 1}, "hierarchy of cgroups 3, want 0 to 2"},
		{"large buffer", Options{BufferSize: MaxBufferSize + 1}, "buffer size of 268435457 bytes, want 1 to 268435456"},
		{"unknown parameter", Options{Params: map[string]string{"pod": "1"}}, `gadget trace_x has no parameter "pod"`},
		{"bad parameter", Options{Params: map[string]string{"pid": "-1"}}, `--pid is "-1", want a number`},
		{"unknown alternative", Options{Alternatives: map[string]string{"exit": "tp"}}, `--alternative "exit=tp" is not known, known are: exit=fexit, exit=kprobe, name=fentry`},
		{"alternative of another group", Options{Alternatives: map[string]string{"name": "kprobe"}}, `--alternative "name=kprobe" is not known`},
		{"unknown group", Options{Alternatives: map[string]string{"entry": "fexit"}}, `--alternative "entry=fexit" is not known`},
		{"empty alternative", Options{Alternatives: map[string]string{"exit": ""}}, `--alternative "exit=" is not known`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.opts.Check(spec)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			// Open says the same before it touches the kernel.
			_, err = Open(&gadget.Object{Spec: *spec}, test.opts)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestUnsupportedErrorNamesEveryAttempt(t *testing.T) {
	missing := errors.New("no such function")
	err := error(&UnsupportedError{Gadget: "trace_bind", Group: "bind", Attempts: []Attempt{
		{Alternative: "fexit", Program: "fexit/inet_bind", Err: fmt.Errorf("loading: %w", ebpf.ErrNotSupported)},
		{Alternative: "kprobe", Program: "kprobe/inet_bind", Err: missing},
	}})
	require.EqualError(t, err, `gadget trace_bind can't run on this kernel: no alternative of "bind" can be attached: `+
		`fexit (fexit/inet_bind): loading: not supported; kprobe (kprobe/inet_bind): no such function`)
	require.ErrorIs(t, err, ebpf.ErrNotSupported)
	require.ErrorIs(t, err, missing)
	require.NotErrorIs(t, err, os.ErrPermission)
	var unsupported *UnsupportedError
	require.True(t, errors.As(fmt.Errorf("opening: %w", err), &unsupported))
	require.EqualError(t, &UnsupportedError{Gadget: "g", Group: "a"}, `gadget g can't run on this kernel: no alternative of "a" can be attached: `)
}

func TestPermissionErrorSaysWhatIsNeeded(t *testing.T) {
	err := privilegeHint(fmt.Errorf("map create: %w", os.ErrPermission))
	require.ErrorContains(t, err, "loading eBPF needs root, or CAP_BPF and CAP_PERFMON on Linux 5.8 and newer")
	require.ErrorIs(t, err, os.ErrPermission)
	other := errors.New("no memory")
	require.Equal(t, other, privilegeHint(other))
	// The verifier's refusal is a permission error too, but root can't help it.
	verifier := fmt.Errorf("load: %w", &ebpf.VerifierError{Cause: os.ErrPermission})
	require.Equal(t, verifier, privilegeHint(verifier))
}

func TestUnknownHookIsAnError(t *testing.T) {
	_, err := attachProgram(gadget.Program{Name: "f", Section: "uprobe/libc:malloc"}, nil)
	require.EqualError(t, err, `hooks of kind "uprobe" are not known`)
}

// fill makes a tracer with records in its buffer, and says which deadline was given last.
func fill(records ...[]byte) (*Tracer, *time.Time) {
	var given time.Time
	next := func(deadline time.Time) ([]byte, error) {
		given = deadline
		if len(records) == 0 {
			return nil, os.ErrDeadlineExceeded
		}
		record := records[0]
		records = records[1:]
		return record, nil
	}
	return &Tracer{buffer: &buffer{next: next, waiting: func() int { return 64 }}}, &given
}

func TestDrainHandsOutRecordsUntilTheBufferIsEmpty(t *testing.T) {
	tr, given := fill([]byte{1}, []byte{}, []byte{2, 3})
	deadline := time.Now()
	var got [][]byte
	empty, err := tr.drain(deadline, func(record []byte) { got = append(got, record) })
	require.NoError(t, err)
	require.True(t, empty)
	require.Equal(t, deadline, *given)
	require.Equal(t, [][]byte{{1}, {2, 3}}, got, "an empty sample is no record")
}

// TestDrainPausesForAFlush although the buffer never gets empty.
func TestDrainPausesForAFlush(t *testing.T) {
	tr, _ := fill(slices.Repeat([][]byte{{1}}, flushRecords+1)...)
	count := 0
	each := func([]byte) { count++ }
	empty, err := tr.drain(time.Now(), each)
	require.NoError(t, err)
	require.False(t, empty)
	require.Equal(t, flushRecords, count)
	empty, err = tr.drain(time.Now(), each)
	require.NoError(t, err)
	require.True(t, empty)
	require.Equal(t, flushRecords+1, count)
}

func TestMarkIsPassedWhenAllThatWaitedHasCome(t *testing.T) {
	each := func([]byte) {}
	tr, _ := fill()
	before := tr.Mark()
	require.False(t, tr.Passed(before))
	_, err := tr.drain(time.Now(), each)
	require.NoError(t, err)
	require.True(t, tr.Passed(before), "the buffer was found empty")

	// All that waited has been read, and the buffer has never been empty.
	for _, test := range []struct {
		perf   bool
		bytes  int
		passed bool
	}{{false, 63, false}, {false, 64, true}, {true, 1000, false}} {
		tr := &Tracer{usePerf: test.perf, buffer: &buffer{waiting: func() int { return 64 }}}
		mark := tr.Mark()
		tr.at.bytes += uint64(test.bytes)
		require.Equal(t, test.passed, tr.Passed(mark), "%+v", test)
	}
}

// TestWokenWhileAnIntervalLasts, and not for its end.
func TestWokenWhileAnIntervalLasts(t *testing.T) {
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	woken := 0
	require.False(t, await(ctx, time.Hour, Handler{Wake: wake, Woken: func() {
		woken++
		cancel()
	}}))
	require.Equal(t, 1, woken)
	require.True(t, await(t.Context(), time.Millisecond, Handler{}))
}
