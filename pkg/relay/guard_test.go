// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// soon is an interval at which tests ask again.
const soon = 20 * time.Millisecond

// trickle sends records until the run on the node is over, which it tells.
func trickle(ended chan<- struct{}) func(*wire.Start, *agentRun) error {
	return func(start *wire.Start, run *agentRun) error {
		defer close(ended)
		if err := run.begin(); err != nil {
			return err
		}
		if start.GetAttach() != nil {
			if err := run.Send(replayedMessage()); err != nil {
				return err
			}
		}
		for {
			if err := run.numbers(0, 1); err != nil {
				return err
			}
			select {
			case <-run.Context().Done():
				return run.Context().Err()
			case <-run.stop:
				return run.end(nil)
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// TestWithdrawnRightEndsTheRun: whatever kind of run it is. Its caller gets nothing more,
// also when they have the right again, and nothing goes on on the nodes.
func TestWithdrawnRightEndsTheRun(t *testing.T) {
	shop := &wire.Selector{Namespaces: []string{"shop"}}
	for _, test := range []struct {
		name, right string
		start       *wire.Start
		want        string
	}{
		{"pods", "jane shop", &wire.Start{Selector: shop}, `user "jane" may not trace pods in namespace "shop": the right is the verb create on tracesessions`},
		{"host", "jane host", &wire.Start{Selector: &wire.Selector{Namespaces: []string{"shop"}, Host: true}}, `user "jane" may not trace processes outside of pods`},
		{
			"session that is read", "jane read shop",
			&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "execs", Follow: true}},
			`user "jane" may not read trace sessions of namespace "shop": the right is the verb get on tracesessions`,
		},
		{
			"interactive session", "jane read shop",
			&wire.Start{Attach: &wire.Attach{Namespace: "shop", Name: "run", Follow: true, Owner: true}},
			`user "jane" may not read trace sessions of namespace "shop"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Options{Window: time.Millisecond, Recheck: soon})
			ended := make(chan struct{})
			w.agent("node1", trickle(ended))
			w.allow(test.right, true)
			v := w.start("jane", test.start)
			id := v.session().GetId()
			v.records(3)
			time.Sleep(5 * soon)
			v.records(10)
			w.allow(test.right, false)
			v.fails(codes.PermissionDenied, "the run ends because a right was withdrawn: "+test.want)
			select {
			case <-ended:
			case <-time.After(patience):
				require.Fail(t, "the run on the node goes on")
			}
			w.allow(test.right, true)
			eventually(t, func() bool { return w.relay.find(id) == nil }, "the session is forgotten")
			w.resume("jane", id, 1).fails(codes.NotFound, "there is no such session")
			stats := w.relay.Stats()
			require.Equal(t, []uint64{1, 0, 0}, []uint64{stats.Denied, stats.Void, stats.Unanswered})
		})
	}
}

// TestVoidCredentialsEndTheStream, and who has better ones can go on.
func TestVoidCredentialsEndTheStream(t *testing.T) {
	w := newWorld(t, Options{Window: time.Millisecond, Recheck: soon})
	w.agent("node1", trickle(make(chan struct{})))
	setVoid := func(void bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.void["admin"] = void
	}
	v := w.start("admin", &wire.Start{})
	id := v.session().GetId()
	v.records(3)
	setVoid(true)
	v.fails(codes.Unauthenticated, "the credentials of the run were withdrawn or have run out: the API server doesn't accept the token")
	last := v.got[len(v.got)-1].GetSequence()
	w.resume("admin", id, last).fails(codes.Unauthenticated, "the API server doesn't accept the token")
	setVoid(false)
	got := v.got
	v = w.resume("admin", id, last)
	require.Zero(t, v.session().GetMissedMessages())
	v.records(3)
	v.stop()
	v.rest()
	for i, r := range recordsOf(append(got, v.got...)) {
		require.EqualValues(t, i, r.number, "nothing is missing")
	}
	require.EqualValues(t, 1, w.relay.Stats().Void)
}

// TestExpiredCertificateEndsTheStream: it was good when the stream began.
func TestExpiredCertificateEndsTheStream(t *testing.T) {
	w := newWorld(t, Options{Window: time.Millisecond, Recheck: soon})
	w.agent("node1", trickle(make(chan struct{})))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	sign := func(template, parent *x509.Certificate) *x509.Certificate {
		template.SerialNumber, template.NotBefore = big.NewInt(1), time.Now().Add(-time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return cert
	}
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kubernetes"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authority = sign(authority, authority)
	w.users.AddCert(authority)
	w.shown = sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "admin"}, NotAfter: time.Now().Add(2 * time.Second),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority)
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{})
	stream, err := w.client.Run(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{
		Start: &wire.Start{Protocol: wire.Current(), Gadget: "trace_x"},
	}}))
	v := &view{tb: t, stream: stream}
	v.records(3)
	v.fails(codes.Unauthenticated, "certificate has expired")
	require.WithinDuration(t, w.shown.NotAfter, time.Now(), 2*time.Second)
}

// TestOthersCredentialsDontDo: a certificate that runs out doesn't leave the stream to
// whose token was sent with it.
func TestOthersCredentialsDontDo(t *testing.T) {
	w := newWorld(t, Options{Recheck: soon})
	w.agent("node1", quiet)
	v := w.start("admin", &wire.Start{})
	s := w.relay.find(v.session().GetId())
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer jane"))
	err := s.stillMay(ctx, patience)
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	require.ErrorContains(t, err, `of user "admin" and are those of user "jane" now`)
	v.stop()
	v.rest()
}

// TestRunsGoOnWithoutAPIServer, and when it is back they are asked about again.
func TestRunsGoOnWithoutAPIServer(t *testing.T) {
	w := newWorld(t, Options{Window: time.Millisecond, Recheck: soon})
	w.agent("node1", trickle(make(chan struct{})))
	v := w.start("jane", &wire.Start{Selector: &wire.Selector{Namespaces: []string{"shop"}}})
	v.records(3)
	w.setSilent(true)
	time.Sleep(20 * soon)
	v.records(300)
	w.setSilent(false)
	time.Sleep(5 * soon)
	v.records(400)
	w.allow("jane shop", false)
	v.fails(codes.PermissionDenied, "a right was withdrawn")
}

// TestUnansweredQuestionsEndTheRun in the end.
func TestUnansweredQuestionsEndTheRun(t *testing.T) {
	w := newWorld(t, Options{Window: time.Millisecond, Recheck: soon, Unanswered: 20 * soon})
	ended := make(chan struct{})
	w.agent("node1", trickle(ended))
	v := w.start("admin", &wire.Start{})
	v.records(3)
	w.setSilent(true)
	began := time.Now()
	v.fails(codes.DeadlineExceeded, "the run ends because for 400ms the API server hasn't said whether its caller may still see it")
	require.Greater(t, time.Since(began), 15*soon)
	<-ended
	require.EqualValues(t, 1, w.relay.Stats().Unanswered)
}

// TestGuard plays answers by the minute, and tells when the stream ends.
func TestGuard(t *testing.T) {
	away := status.Error(codes.Unavailable, "connection refused")
	no := status.Error(codes.PermissionDenied, "jane may not")
	void := status.Error(codes.Unauthenticated, "no such token")
	for _, test := range []struct {
		name string
		// answers come at the beginning of each minute, the last one for ever.
		answers []error
		ends    int
		code    codes.Code
		text    string
	}{
		{"yes for ever", []error{nil}, 0, codes.OK, ""},
		{"no at once", []error{no}, 1, codes.PermissionDenied, "a right was withdrawn: jane may not"},
		{"no later", []error{nil, nil, no}, 3, codes.PermissionDenied, "a right was withdrawn: jane may not"},
		{"void", []error{nil, void}, 2, codes.Unauthenticated, "have run out: no such token"},
		{"ten minutes away", []error{nil, away, away, away, away, away, away, away, away, away, away, nil}, 0, codes.OK, ""},
		{"away for ever", []error{nil, away}, 16, codes.DeadlineExceeded, "for 15m0s the API server hasn't said"},
		{"away, then yes, then away", []error{away, away, nil, away}, 18, codes.DeadlineExceeded, "connection refused"},
		{"one no of a server that was away", []error{away, no, nil}, 0, codes.OK, ""},
		{"two of them", []error{away, no, no}, 3, codes.PermissionDenied, "jane may not"},
		{"a no when it is late", []error{
			away, away, away, away, away, away, away, away, away, away, away, away, away, away, no,
		}, 15, codes.PermissionDenied, "jane may not"},
	} {
		t.Run(test.name, func(t *testing.T) {
			begin := time.Now()
			g := guard{every: DefaultRecheck, limit: DefaultUnanswered, answered: begin, wait: DefaultRecheck}
			for minute := 1; minute <= 60; minute++ {
				now := begin.Add(time.Duration(minute) * time.Minute)
				answer := test.answers[min(minute, len(test.answers))-1]
				if err := g.take(now, now, answer); err != nil {
					require.Equal(t, test.ends, minute)
					require.Equal(t, test.code, status.Code(err))
					require.Contains(t, status.Convert(err).Message(), test.text)
					return
				}
			}
			require.Zero(t, test.ends, "it never ended")
		})
	}
}

// TestGuardsPauses: never longer than planned, not all the same, shorter after a question
// without an answer and then longer again, and never beyond the limit.
func TestGuardsPauses(t *testing.T) {
	now := time.Now()
	g := guard{every: time.Minute, limit: 15 * time.Minute, answered: now, wait: time.Minute}
	pauses := map[time.Duration]bool{}
	between := func(least, most time.Duration) {
		t.Helper()
		for range 100 {
			pause := g.pause(now)
			require.GreaterOrEqual(t, pause, least)
			require.LessOrEqual(t, pause, most)
			pauses[pause] = true
		}
	}
	between(45*time.Second, time.Minute)
	require.Greater(t, len(pauses), 50)
	for _, most := range []time.Duration{7500 * time.Millisecond, 15 * time.Second, 30 * time.Second, time.Minute, time.Minute} {
		require.NoError(t, g.take(now, now, status.Error(codes.Unavailable, "")))
		between(most/4*3, most)
	}
	now = now.Add(15*time.Minute - time.Second)
	between(time.Second, time.Second)
	require.NoError(t, g.take(now, now, nil))
	between(45*time.Second, time.Minute)
}

// TestWithdrawnBoxGivesNothing, whatever was in it or comes.
func TestWithdrawnBoxGivesNothing(t *testing.T) {
	why := status.Error(codes.PermissionDenied, "jane may not")
	for name, before := range map[string]func(*box){
		"open":   func(*box) {},
		"closed": func(b *box) { b.close(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(1 << 20)
			for range 3 {
				b.add(&wire.RunResponse{})
			}
			before(b)
			_, done, err := b.next(t.Context())
			require.NoError(t, err)
			require.False(t, done)
			b.withdraw(why)
			b.add(&wire.RunResponse{})
			for range 2 {
				_, done, err = b.next(t.Context())
				require.True(t, done)
				require.Equal(t, why, err)
				_, _, _, err = b.resume(0)
				require.NoError(t, err)
			}
			require.True(t, b.finished())
			require.False(t, b.full())
		})
	}
}
