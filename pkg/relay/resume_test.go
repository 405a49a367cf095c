// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"nodegadget.dev/pkg/wire"
)

// scripted sends explained records one batch after the other, as many as it is told
// to, and ends when it is stopped.
func scripted(batches <-chan int) func(*wire.Start, *agentRun) error {
	return func(_ *wire.Start, run *agentRun) error {
		if err := run.begin(); err != nil {
			return err
		}
		if err := run.explain(&wire.Container{Ref: 1, Name: "web"}); err != nil {
			return err
		}
		for {
			select {
			case count := <-batches:
				if err := run.numbers(1, count); err != nil {
					return err
				}
			case <-run.stop:
				return run.end(nil)
			}
		}
	}
}

// TestResumeAtEveryPoint cuts the stream after each message of a session in turn, and
// goes on: every message comes exactly once, in order.
func TestResumeAtEveryPoint(t *testing.T) {
	const batches, size = 6, 10
	w := newWorld(t, Options{Window: time.Millisecond})
	for cut := 1; cut <= batches+4; cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			orders := make(chan int)
			a := w.agent("node1", scripted(orders))
			defer a.halt()
			v := w.start("admin", &wire.Start{})
			id := v.session().GetId()
			v.until(func(m *wire.RunResponse) bool { return m.GetContainers() != nil })
			for i := range batches {
				orders <- size
				if len(v.got)+1 <= cut {
					v.records((i + 1) * size)
				}
			}
			if len(v.got) < cut {
				v.stop()
			}
			for len(v.got) < cut {
				_, err := v.next()
				require.NoError(t, err)
			}
			got := append([]*wire.RunResponse(nil), v.got[:cut]...)
			v.cancel()

			v = w.resume("admin", id, uint64(cut))
			session := v.session()
			require.Equal(t, id, session.GetId())
			require.Zero(t, session.GetMissedMessages())
			require.Zero(t, session.GetMissedRecords())
			require.EqualValues(t, cut, v.got[0].GetSequence())
			v.got = got
			v.stop()
			end := v.rest()
			require.EqualValues(t, batches*size, end.GetRecords())
			for i, m := range v.got {
				require.EqualValues(t, i+1, m.GetSequence())
			}
			records := recordsOf(v.got)
			require.Len(t, records, batches*size)
			for i, r := range records {
				require.EqualValues(t, i, r.number)
				require.Equal(t, "web", r.container.GetName())
			}
		})
	}
}

// TestResumeAgainAndAgain: a connection that breaks after every few messages.
func TestResumeAgainAndAgain(t *testing.T) {
	w := newWorld(t, Options{Window: time.Millisecond})
	orders := make(chan int, 1000)
	w.agent("node1", scripted(orders))
	v := w.start("admin", &wire.Start{})
	id := v.session().GetId()
	for range 500 {
		orders <- 3
	}
	got := v.got
	for len(recordsOf(got)) < 1500 {
		v.got = nil
		for range 5 {
			_, err := v.next()
			require.NoError(t, err)
			if got = append(got, v.got[len(v.got)-1]); len(recordsOf(got)) == 1500 {
				break
			}
		}
		v.cancel()
		v = w.resume("admin", id, got[len(got)-1].GetSequence())
		require.Zero(t, v.session().GetMissedMessages())
	}
	for i, r := range recordsOf(got) {
		require.EqualValues(t, i, r.number)
	}
	v.stop()
	v.rest()
}

// TestResumeSaysWhatWasMissed: with little memory, old messages are forgotten. What is
// received and what is missed are everything, and what references mean is said again.
func TestResumeSaysWhatWasMissed(t *testing.T) {
	w := newWorld(t, Options{Window: time.Millisecond, Memory: 64 << 10})
	orders := make(chan int, 1000)
	w.agent("node1", scripted(orders))
	v := w.start("admin", &wire.Start{})
	id := v.session().GetId()
	const total = 300 * 100
	for i := range 300 {
		orders <- 100
		v.records((i + 1) * 100)
	}
	got := v.got
	lastSent := got[len(got)-1].GetSequence()
	v.cancel()
	const after = 5
	v = w.resume("admin", id, after)
	session := v.session()
	require.NotZero(t, session.GetMissedMessages())
	require.Equal(t, after+session.GetMissedMessages(), v.got[0].GetSequence())
	v.header("node1")
	require.Zero(t, v.got[1].GetSequence(), "what is said again has no number")
	kept := int(lastSent - after - session.GetMissedMessages())
	have := len(recordsOf(got[:after]))
	rest := 0
	for range kept {
		m := v.until(func(m *wire.RunResponse) bool { return m.GetSequence() > 0 })
		rest += int(m.GetBatch().GetCount())
	}
	require.Equal(t, total, have+rest+int(session.GetMissedRecords()))
	for _, r := range recordsOf(v.got) {
		require.Equal(t, "web", r.container.GetName())
	}
	v.stop()
	v.rest()
}

func TestWhoMayResume(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", quiet)
	v := w.start("jane", &wire.Start{Selector: &wire.Selector{Namespaces: []string{"shop"}}})
	id := v.session().GetId()
	require.Len(t, id, 32)
	v.header("node1")
	w.resume("admin", id, 1).fails(codes.NotFound, "there is no such session")
	w.resume("jane", "0123", 1).fails(codes.NotFound, "there is no such session")
	w.resume("jane", id, 99).fails(codes.InvalidArgument, "message 99 has not been sent yet")
	v.fails(codes.Aborted, "resumed by another stream")
	second := w.resume("jane", id, 1)
	second.session()
	third := w.resume("jane", id, 1)
	third.session()
	second.fails(codes.Aborted, "resumed by another stream")
	w.allow("jane shop", false)
	w.resume("jane", id, 1).fails(codes.PermissionDenied, `may not trace pods in namespace "shop"`)
	third.stop()
	third.rest()
}

// TestBrokenStreamLingers, and then the runs on nodes end.
func TestBrokenStreamLingers(t *testing.T) {
	w := newWorld(t, Options{Linger: 500 * time.Millisecond})
	ended := make(chan struct{})
	w.agent("node1", func(start *wire.Start, run *agentRun) error {
		defer close(ended)
		return quiet(start, run)
	})
	v := w.start("admin", &wire.Start{})
	id := v.session().GetId()
	v.header("node1")
	v.cancel()
	eventually(t, func() bool { return w.relay.Stats().Lingering == 1 }, "the session lingers")
	select {
	case <-ended:
		require.Fail(t, "the run ended at once")
	case <-time.After(100 * time.Millisecond):
	}
	select {
	case <-ended:
	case <-time.After(patience):
		require.Fail(t, "the run goes on for ever")
	}
	eventually(t, func() bool { return w.relay.Stats().Sessions == 0 }, "the session is over")
	eventually(t, func() bool { return w.relay.find(id) == nil }, "the session is forgotten")
	w.resume("admin", id, 1).fails(codes.NotFound, "there is no such session")
}

// TestOwnersComeBackSooner: who owns what is shown has less time to come back, but as much
// as others if the API server, which is on the way, was away.
func TestOwnersComeBackSooner(t *testing.T) {
	w := newWorld(t, Options{Linger: time.Minute, OwnerLinger: 500 * time.Millisecond})
	w.agent("node1", quiet)
	w.allow("admin read shop", true)
	leave := func() *session {
		v := w.start("admin", &wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "run", Follow: true, Owner: true}})
		s := w.relay.find(v.session().GetId())
		v.header("node1")
		v.cancel()
		return s
	}
	leave()
	eventually(t, func() bool { return w.relay.Stats().Sessions == 0 }, "the session is over")
	w.setAway(true)
	s := leave()
	time.Sleep(3 * lossInterval)
	w.setAway(false)
	time.Sleep(3 * lossInterval)
	require.Equal(t, 1, w.relay.Stats().Sessions, "the client had no way to come back")
	s.kill()
	s.box.close(nil)
}

// TestTheEndCanBeFetchedLater: the connection breaks when everything is over.
func TestTheEndCanBeFetchedLater(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", quiet)
	v := w.start("admin", &wire.Start{})
	id := v.session().GetId()
	v.header("node1")
	v.stop()
	v.rest()
	v = w.resume("admin", id, 2)
	require.NotNil(t, v.rest())
}

func TestLimits(t *testing.T) {
	w := newWorld(t, Options{MaxSessions: 3, MaxSessionsPerCaller: 2})
	w.allow("joe ", true)
	w.agent("node1", quiet)
	pods := func() *wire.Start { return &wire.Start{Selector: &wire.Selector{}} }
	var views []*view
	for range 2 {
		v := w.start("admin", pods())
		v.header("node1")
		views = append(views, v)
	}
	w.start("admin", pods()).fails(codes.ResourceExhausted, `user "admin" has 2 runs already`)
	v := w.start("joe", pods())
	v.header("node1")
	w.start("joe", pods()).fails(codes.ResourceExhausted, "the relay serves 3 runs already")
	for _, v := range append(views, v) {
		v.stop()
		v.rest()
	}
	v = w.start("admin", pods())
	v.header("node1")
	v.stop()
	v.rest()
}

func TestSenselessRequests(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", quiet)
	params := map[string]string{}
	for i := range wire.MaxParams + 1 {
		params[fmt.Sprint(i)] = ""
	}
	w.start("admin", &wire.Start{Params: params}).fails(codes.InvalidArgument, "65 parameters")
	w.start("admin", &wire.Start{Nodes: make([]string, maxNodes+1)}).fails(codes.InvalidArgument, "4097 names of nodes")
	w.open("admin", &wire.RunRequest{Request: &wire.RunRequest_Start{Start: &wire.Start{}}}).fails(codes.FailedPrecondition, "use the same major version")
	w.open("admin", &wire.RunRequest{Request: &wire.RunRequest_Resume{Resume: &wire.Resume{}}}).fails(codes.FailedPrecondition, "use the same major version")
	w.open("admin", &wire.RunRequest{}).fails(codes.InvalidArgument, "neither start nor resume")
	w.start("admin", &wire.Start{Filter: string(make([]byte, maxRequest))}).fails(codes.ResourceExhausted, "larger than max")
}

// TestRelayShutsDown: clients are told to go on elsewhere.
func TestRelayShutsDown(t *testing.T) {
	w := newWorld(t, Options{})
	w.agent("node1", quiet)
	v := w.start("admin", &wire.Start{})
	v.header("node1")
	w.relay.Close()
	v.fails(codes.Unavailable, "the relay is shutting down")
	w.start("admin", &wire.Start{}).fails(codes.Unavailable, "the relay is shutting down")
}
