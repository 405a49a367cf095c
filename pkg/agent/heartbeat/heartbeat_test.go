// SPDX-License-Identifier: Apache-2.0

package heartbeat

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T) *Heartbeat {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loading eBPF takes CAP_BPF and CAP_PERFMON")
	}
	h, err := Open()
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

func TestBeatsAreSeen(t *testing.T) {
	h, other := open(t), open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.NoError(t, h.Run(ctx))
	beats, missed := h.Beats()
	require.EqualValues(t, 1, beats)
	require.Zero(t, missed)
	require.Zero(t, h.Missed())
	// Two agents on one kernel, as on a laptop's cluster, don't hear each other.
	other.reader.SetDeadline(time.Now())
	_, err := other.reader.Read()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestStoppedHeartIsNoticed takes the program from its hook.
func TestStoppedHeartIsNoticed(t *testing.T) {
	h := open(t)
	require.NoError(t, h.link.Close())
	for i := range uint64(3) {
		require.Equal(t, i, h.Missed())
		require.NoError(t, h.beat())
	}
	require.EqualValues(t, 3, h.Missed())
	_, missed := h.Beats()
	require.EqualValues(t, 3, missed)
}

func TestClosedHeartbeatIsAnError(t *testing.T) {
	h := open(t)
	require.NoError(t, h.reader.Close())
	require.ErrorContains(t, h.Run(t.Context()), "beating: ")
}
