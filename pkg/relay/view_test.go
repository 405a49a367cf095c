// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// as is the context of a user's calls.
func as(ctx context.Context, user string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("authorization", "Bearer "+user))
}

// view is a client's side of a session.
type view struct {
	tb     testing.TB
	stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse]
	cancel context.CancelFunc
	// got is all that came.
	got []*wire.RunResponse
}

func (w *world) open(user string, request *wire.RunRequest) *view {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(w.tb.Context(), 2*patience)
	w.tb.Cleanup(cancel)
	stream, err := w.client.Run(as(ctx, user))
	require.NoError(w.tb, err)
	require.NoError(w.tb, stream.Send(request))
	return &view{tb: w.tb, stream: stream, cancel: cancel}
}

func (w *world) start(user string, start *wire.Start) *view {
	w.tb.Helper()
	start.Protocol = wire.Current()
	if start.Gadget == "" {
		start.Gadget = "trace_x"
	}
	return w.open(user, &wire.RunRequest{Request: &wire.RunRequest_Start{Start: start}})
}

func (w *world) resume(user, session string, after uint64) *view {
	w.tb.Helper()
	return w.open(user, &wire.RunRequest{Request: &wire.RunRequest_Resume{Resume: &wire.Resume{
		Protocol: wire.Current(), Session: session, After: after,
	}}})
}

func (v *view) next() (*wire.RunResponse, error) {
	message, err := v.stream.Recv()
	if err == nil {
		v.got = append(v.got, message)
	}
	return message, err
}

// until reads on until a message is as wanted.
func (v *view) until(wanted func(*wire.RunResponse) bool) *wire.RunResponse {
	v.tb.Helper()
	for {
		message, err := v.next()
		if err != nil {
			require.NoError(v.tb, err, "after %v", summary(v.got))
		}
		if wanted(message) {
			return message
		}
	}
}

func (v *view) session() *wire.Session {
	v.tb.Helper()
	session := v.until(func(*wire.RunResponse) bool { return true }).GetSession()
	require.NotNil(v.tb, session)
	return session
}

func (v *view) gone(node string) *wire.Gone {
	v.tb.Helper()
	return v.until(func(m *wire.RunResponse) bool { return m.GetGone().GetNode() == node }).GetGone()
}

func (v *view) header(node string) *wire.RunResponse {
	v.tb.Helper()
	return v.until(func(m *wire.RunResponse) bool { return m.GetHeader().GetNode().GetName() == node })
}

// records reads until so many records have come.
func (v *view) records(count int) {
	v.tb.Helper()
	for n := count - len(recordsOf(v.got)); n > 0; {
		n -= int(v.until(func(m *wire.RunResponse) bool { return m.GetBatch() != nil }).GetBatch().GetCount())
	}
}

func (v *view) stop() {
	v.tb.Helper()
	// It may have ended already.
	if err := v.stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}}); !errors.Is(err, io.EOF) {
		require.NoError(v.tb, err)
	}
}

// rest reads to the end, which it returns.
func (v *view) rest() *wire.End {
	v.tb.Helper()
	end, err := v.drain()
	require.NoError(v.tb, err)
	return end
}

func (v *view) drain() (*wire.End, error) {
	var end *wire.End
	for {
		message, err := v.next()
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return nil, err
		}
		if message.GetNode() == 0 && message.GetEnd() != nil {
			end = message.GetEnd()
		}
	}
}

// fails reads until the stream ends with an error, and checks that.
func (v *view) fails(code codes.Code, text string) {
	v.tb.Helper()
	_, err := v.drain()
	require.Error(v.tb, err)
	require.Equal(v.tb, code, status.Code(err), "%v", err)
	require.Contains(v.tb, status.Convert(err).Message(), text)
}

// seen is a record with what is known of its container.
type seen struct {
	node, number uint32
	at           uint64
	container    *wire.Container
	target       *wire.Container
}

// recordsOf lists the records of messages. Every reference must have been explained.
func recordsOf(messages []*wire.RunResponse) []seen {
	var all []seen
	explained := map[uint32]*wire.Container{}
	for _, m := range messages {
		for _, c := range m.GetContainers().GetContainers() {
			explained[c.GetRef()] = c
		}
		i := 0
		for ref, record := range m.GetBatch().All() {
			s := seen{at: binary.LittleEndian.Uint64(record), number: uint32(numberIn(record)), container: explained[ref]}
			s.node = s.container.GetNode()
			if targets := m.GetBatch().GetTargets(); len(targets) > 0 {
				s.target = explained[targets[i]]
			}
			all = append(all, s)
			i++
		}
	}
	return all
}

// numberIn is the number in a record of eventHeader's gadget.
func numberIn(record []byte) uint64 { return binary.LittleEndian.Uint64(record[8:]) }

func numbersOf(records []seen) []uint32 {
	var numbers []uint32
	for _, r := range records {
		numbers = append(numbers, r.number)
	}
	return numbers
}

// summary names the kinds of messages, for failures.
func summary(messages []*wire.RunResponse) string {
	var b strings.Builder
	for _, m := range messages[max(0, len(messages)-20):] {
		text := m.String()
		b.WriteString("\n\t" + text[:min(len(text), 200)])
	}
	return b.String()
}

func eventually(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 5*time.Millisecond, what)
}
