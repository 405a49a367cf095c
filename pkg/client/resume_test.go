// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

func TestBrokenRunIsResumed(t *testing.T) {
	lost := status.Error(codes.Unavailable, "EOF")
	// It says what is there, and repeats what was missed, without numbers.
	resumed := from(0, 5, session("s", "a", "c"))
	resumed.GetSession().MissedMessages, resumed.GetSession().MissedRecords = 2, 5
	r := &relay{acts: []act{
		{answers: []*wire.RunResponse{
			from(0, 1, session("s", "a", "b")), from(1, 2, headerOf("a")), from(2, 2, headerOf("b")),
			from(0, 3, records(0, 1)), from(1, 3, lossOf(&wire.Loss{Kernel: 3})),
		}, end: lost},
		// The first attempts don't succeed.
		{end: lost},
		{end: status.Error(codes.Unavailable, "gone fishing")},
		{end: status.Error(codes.Unavailable, "gone fishing")},
		{answers: []*wire.RunResponse{
			resumed, from(1, 0, headerOf("a")), from(3, 0, headerOf("c")),
			from(0, 5, records(0, 1)), // Has arrived, or is counted as missed.
			from(0, 6, records(6, 1)), from(1, 7, end(7, &wire.Loss{Kernel: 3})), from(0, 8, end(7, &wire.Loss{Kernel: 3})),
		}},
	}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Equal(t, []string{
		"session s", "header of a", "batch", "connection lost: EOF; connecting again",
		"not connected yet: gone fishing",
		"session s", "header of a", "header of c", "batch", "end of a", "end",
	}, got, "what had arrived isn't handed out twice")
	require.Equal(t, Counts{Received: 2, Missing: 5, Kernel: 3}, run.Counts())
	require.Equal(t, Missed{Breaks: 1, Messages: 2, Records: 5}, run.Missed())
	require.Equal(t, "trace_x", r.requests[0].GetStart().GetGadget())
	for _, request := range r.requests[1:] {
		require.Equal(t, "s", request.GetResume().GetSession())
		require.EqualValues(t, 3, request.GetResume().GetAfter())
		require.EqualValues(t, wire.Major, request.GetResume().GetProtocol().GetMajor())
	}
	require.False(t, run.Nodes()[0].Vanished)
	require.Equal(t, "it wasn't there any more when the connection was", run.Nodes()[1].Gone)
}

// TestForgottenSessionIsBegunAnew: a relay that was restarted knows nothing.
func TestForgottenSessionIsBegunAnew(t *testing.T) {
	for _, code := range []codes.Code{codes.NotFound, codes.OutOfRange} {
		r := &relay{acts: []act{
			{answers: []*wire.RunResponse{
				from(0, 1, session("s", "a", "b")), from(1, 2, headerOf("a")), from(2, 3, headerOf("b")), from(0, 4, records(0, 3)),
				from(2, 5, lossOf(&wire.Loss{Kernel: 2})),
			}, end: status.Error(codes.Unavailable, "EOF")},
			{end: status.Error(code, "no such session")},
			{answers: []*wire.RunResponse{
				from(0, 1, session("t", "b")), from(1, 2, headerOf("b")), from(0, 3, records(0, 2)),
				from(1, 4, end(3, &wire.Loss{Kernel: 1})), from(0, 5, end(3, &wire.Loss{Kernel: 1})),
			}},
		}}
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
		require.NoError(t, err)
		got, err := drain(t, run)
		require.NoError(t, err)
		require.Equal(t, []string{"session t", "header of b", "batch", "end of b", "end"}, got[6:])
		require.Equal(t, Missed{Breaks: 1, Restarts: 1}, run.Missed())
		require.NotEmpty(t, run.Nodes()[0].Gone)
		require.Equal(t, Counts{Received: 5, Kernel: 3, Missing: 1}, run.Counts())
		require.Equal(t, "trace_x", r.requests[2].GetStart().GetGadget())
	}
}

func TestVerdictsAreNotRetried(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.PermissionDenied: "not yours", codes.Unauthenticated: "resuming the run: not yours", codes.Internal: "not yours", codes.ResourceExhausted: "not yours",
	} {
		r := &relay{acts: []act{
			{answers: []*wire.RunResponse{session("s")}, end: status.Error(code, "not yours")},
			{end: status.Error(code, "not yours")},
		}}
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		_, err = drain(t, run)
		require.EqualError(t, err, want)

		r.acts = []act{{answers: []*wire.RunResponse{session("s")}, end: status.Error(codes.Unavailable, "EOF")}, {end: status.Error(code, "not yours")}}
		run, err = connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		_, err = drain(t, run)
		require.EqualError(t, err, "resuming the run: not yours", "the same when resuming")
	}
}

// TestNewTokens: a token that has run out meanwhile is replaced by the one that there is
// then, and nothing is missed.
func TestNewTokens(t *testing.T) {
	r := &relay{acts: []act{
		{answers: []*wire.RunResponse{from(0, 1, session("s", "a")), from(1, 2, headerOf("a"))}, end: status.Error(codes.Unauthenticated, "the token has run out")},
		{answers: []*wire.RunResponse{from(0, 2, session("s", "a")), from(1, 3, end(0, nil)), from(0, 4, end(0, nil))}},
	}}
	tokens := 0
	run, err := connectRelay(t, r, RelayOptions{Headers: func(context.Context) (http.Header, error) {
		tokens++
		return http.Header{"Authorization": {fmt.Sprint("Bearer ", tokens)}}, nil
	}}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Contains(t, got, "the token has run out; going on with those that there are now")
	require.True(t, run.Ended())
	require.Zero(t, run.Missed())
	require.EqualValues(t, 2, r.requests[1].GetResume().GetAfter())
	require.Equal(t, []string{"Bearer 2"}, r.headers[1].Get("authorization"))
}

func TestResumingEnds(t *testing.T) {
	broken := func() *relay {
		return &relay{acts: []act{{answers: []*wire.RunResponse{session("s")}, end: status.Error(codes.Unavailable, "EOF")}}}
	}
	t.Run("by time", func(t *testing.T) {
		r := broken()
		run, err := connectRelay(t, r, RelayOptions{Retry: time.Millisecond}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		for range 20 {
			r.acts = append(r.acts, act{end: status.Error(codes.Unavailable, "gone fishing")})
		}
		_, err = drain(t, run)
		require.ErrorContains(t, err, "the connection broke, and none could be made for 1ms: gone fishing")
	})
	t.Run("by stop", func(t *testing.T) {
		r := broken()
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		for range 20 {
			r.acts = append(r.acts, act{end: status.Error(codes.Unavailable, "gone fishing")})
		}
		time.AfterFunc(50*time.Millisecond, run.Stop)
		_, err = drain(t, run)
		require.ErrorContains(t, err, "the run was stopped while its connection was broken: EOF")
	})
	t.Run("by context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := broken()
		for range 20 {
			r.acts = append(r.acts, act{end: status.Error(codes.Unavailable, "gone fishing")})
		}
		run, err := connectRelay(t, r, RelayOptions{}).Run(ctx, &wire.Start{})
		require.NoError(t, err)
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err = drain(t, run)
		require.ErrorContains(t, err, "context canceled")
	})
}

// TestStopReachesTheResumedRun: it may come while there is no connection.
func TestStopReachesTheResumedRun(t *testing.T) {
	r := &relay{acts: []act{
		{answers: []*wire.RunResponse{session("s", "a"), from(1, 2, headerOf("a"))}, end: status.Error(codes.Unavailable, "EOF")},
		{answers: []*wire.RunResponse{session("s")}, until: "stop"},
	}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	for {
		message, err := run.Next()
		require.NoError(t, err)
		if r.asked() == 2 && message.GetSession() != nil {
			break
		}
	}
	run.Stop()
	_, err = drain(t, run)
	require.NoError(t, err)
}

// TestForgottenReadingGoesOn behind what was shown.
func TestForgottenReadingGoesOn(t *testing.T) {
	lost := status.Error(codes.Unavailable, "EOF")
	r := &relay{acts: []act{
		{answers: []*wire.RunResponse{from(0, 1, session("s")), from(1, 2, headerOf("a")), from(0, 3, records(0, 3))}, end: lost},
		{end: status.Error(codes.NotFound, "no such session")},
		{answers: []*wire.RunResponse{
			from(0, 1, session("t")), from(1, 2, headerOf("a")), from(0, 3, records(0, 2)), from(1, 4, end(2, nil)), from(0, 5, end(2, nil)),
		}},
	}}
	start := &wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "carts", Since: 5, Tail: 7, Follow: true}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), start)
	require.NoError(t, err)
	for range 3 {
		_, err = run.Next()
		require.NoError(t, err)
	}
	run.Shown(time.Unix(0, 900))
	run.Shown(time.Unix(0, 800))
	_, err = drain(t, run)
	require.NoError(t, err)
	attach := r.requests[0].GetStart().GetAttach()
	require.EqualValues(t, 5, attach.GetSince())
	require.EqualValues(t, 7, attach.GetTail())
	attach = r.requests[2].GetStart().GetAttach()
	require.EqualValues(t, 900, attach.GetSince())
	require.Zero(t, attach.GetTail())
	require.True(t, attach.GetFollow())
	require.Equal(t, Counts{Received: 5}, run.Counts())
	require.False(t, run.Nodes()[0].Vanished, "that a session doesn't name nodes doesn't mean that they aren't there")
}
