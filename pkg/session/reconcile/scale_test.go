// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

const (
	manyAgents   = 1000
	manySessions = 50
)

// TestAThousandAgents: what they say is in the status within ten seconds, which is
// written at most once a second, and far less often when nothing but counts change.
func TestAThousandAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newServer(), newBoard()
		r := newReconciler(t, s, b)
		var keys []types.NamespacedName
		for i := range manySessions {
			object := &v1alpha1.TraceSession{}
			object.Namespace, object.Name, object.Generation = "shop", fmt.Sprintf("s%d", i), 1
			object.UID = types.UID(object.Name)
			object.CreationTimestamp = metav1.Now()
			object.Spec.Gadget.Name = "trace_exec"
			s.put(t, object)
			keys = append(keys, types.NamespacedName{Namespace: "shop", Name: object.Name})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { work(ctx, t, r, keys) })
		b.start(time.Now())
		began := time.Now()
		const seconds = 30
		for i := range manyAgents {
			group.Go(func() { simulate(b, fmt.Sprintf("node%04d", i), began, seconds, i) })
		}
		time.Sleep(10 * time.Second)
		for _, key := range keys {
			status := s.status(t, key)
			require.Equal(t, v1alpha1.SessionRunning, status.Phase, key)
			require.EqualValues(t, manyAgents, status.Nodes.Running)
		}
		time.Sleep((seconds + 10) * time.Second)
		for _, key := range keys {
			status := s.status(t, key)
			require.EqualValues(t, manyAgents*seconds*10, status.Events, key)
			require.EqualValues(t, manyAgents*seconds, status.Lost, key)
			times := s.writes[key]
			for i := 1; i < len(times); i++ {
				require.GreaterOrEqual(t, times[i].Sub(times[i-1]), statusPace)
			}
			require.LessOrEqual(t, len(times), 3+(seconds+10)/5, "counts alone are written every five seconds")
		}
		cancel()
		group.Wait()
	})
}

// simulate is an agent that runs all sessions, and reports once a second how that goes.
func simulate(b *board, node string, began time.Time, seconds, offset int) {
	time.Sleep(time.Duration(offset%1000) * time.Millisecond)
	seat := b.join(node, time.Now())
	for second := range seconds + 1 {
		report := &wire.SessionsReport{}
		for i := range manySessions {
			report.Sessions = append(report.Sessions, runs(fmt.Sprintf("s%d", i), began, uint64(10*second), uint64(second)))
		}
		b.report(seat, time.Now(), report)
		time.Sleep(time.Second)
	}
}

// BenchmarkReport takes one report of 50 sessions, as each of 1,000 agents sends every
// second at most, and BenchmarkView adds up what they said of one session.
func BenchmarkReport(b *testing.B) {
	board, seats := crowd(b)
	report := &wire.SessionsReport{}
	for i := range manySessions {
		report.Sessions = append(report.Sessions, runs(fmt.Sprintf("s%d", i), epoch, 10, 1))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		board.report(seats[i%len(seats)], epoch, report)
	}
}

func BenchmarkView(b *testing.B) {
	board, _ := crowd(b)
	s := plain(b, "s7")
	b.ReportAllocs()
	for b.Loop() {
		v := board.view(s, after(time.Minute))
		if v.running != manyAgents {
			b.Fatal(v.running)
		}
		statusOf(subject{Session: s}, v, &v1alpha1.SessionStatus{}, epoch)
	}
}

// crowd is a board to which all agents have reported.
func crowd(tb testing.TB) (*board, []*seat) {
	tb.Helper()
	b := newBoard()
	b.start(epoch)
	var seats []*seat
	for n := range manyAgents {
		seat := b.join(fmt.Sprintf("node%04d", n), epoch)
		report := &wire.SessionsReport{}
		for i := range manySessions {
			report.Sessions = append(report.Sessions, runs(fmt.Sprintf("s%d", i), epoch, 1, 0))
		}
		b.report(seat, epoch, report)
		seats = append(seats, seat)
	}
	return b, seats
}

// TestAgentsThatSayTooMuch don't fill the memory.
func TestAgentsThatSayTooMuch(t *testing.T) {
	b := newBoard()
	b.start(epoch)
	for n := range 20 {
		seat := b.join(fmt.Sprint("node", n), epoch)
		for round := range 2 {
			report := &wire.SessionsReport{}
			for i := range 2 * maxReported {
				report.Sessions = append(report.Sessions, runs(fmt.Sprintf("s%d-%d-%d", n, round, i), epoch, 1, 0))
			}
			b.report(seat, epoch, report)
		}
		require.LessOrEqual(t, len(seat.reported), maxReported)
	}
	require.LessOrEqual(t, len(b.entries), maxEntries)
	b.prune(after(awaited))
	require.Empty(t, b.entries)
	// And sessions that are known get in.
	b.know("real", types.NamespacedName{Namespace: "shop", Name: "real"}, after(awaited), &v1alpha1.SessionStatus{})
	b.prune(after(time.Hour))
	require.Len(t, b.entries, 1)
}
