// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

// controller is one that issues certificates to the bearer of a token.
type controller struct {
	wire.UnimplementedEnrolmentServer
	t         *testing.T
	authority *pki.Authority
	// pair is its certificate, address where it listens.
	pair    *pki.KeyPair
	address string
	token   atomic.Pointer[string]
	// node is whose certificates it issues.
	node   string
	issued atomic.Int32
}

// Enrol is part of wire.EnrolmentServer.
func (c *controller) Enrol(ctx context.Context, request *wire.EnrolRequest) (*wire.EnrolResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+*c.token.Load() {
		return nil, status.Error(codes.Unauthenticated, "who is that?")
	}
	identity, err := pki.Agent(c.node)
	if err != nil {
		return nil, err
	}
	der, err := c.authority.Issue(request.GetCsr(), pki.Leaf{Identity: identity})
	c.issued.Add(1)
	return &wire.EnrolResponse{Certificate: der}, err
}

func newAuthority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority()
	require.NoError(t, err)
	return a
}

func pairOf(t *testing.T, a *pki.Authority, identity pki.Identity) *pki.KeyPair {
	t.Helper()
	request, err := pki.NewRequest()
	require.NoError(t, err)
	der, err := a.Issue(request.CSR, pki.Leaf{Identity: identity})
	require.NoError(t, err)
	cert, err := request.Certificate(der)
	require.NoError(t, err)
	pair := &pki.KeyPair{}
	pair.Set(cert)
	return pair
}

func newController(t *testing.T) *controller {
	t.Helper()
	c := &controller{t: t, authority: newAuthority(t), node: "worker-1"}
	c.pair = pairOf(t, c.authority, pki.Controller)
	token := "secret"
	c.token.Store(&token)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.address = listener.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(pki.OpenServerConfig(c.pair))))
	wire.RegisterEnrolmentServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return c
}

func (c *controller) roots() *pki.Roots { return rootsOf(c.t, c.authority) }

func rootsOf(t *testing.T, a *pki.Authority) *pki.Roots {
	t.Helper()
	roots, err := pki.NewRoots(pki.MarshalCertificates(a.Certificate()))
	require.NoError(t, err)
	return roots
}

// files writes the authority's certificate and a token.
func (c *controller) files(token string) *Enrolment {
	c.t.Helper()
	dir := c.t.TempDir()
	e := &Enrolment{Controller: c.address, Authority: filepath.Join(dir, "ca.crt"), Token: filepath.Join(dir, "token")}
	require.NoError(c.t, os.WriteFile(e.Authority, pki.MarshalCertificates(c.authority.Certificate()), 0o600))
	require.NoError(c.t, os.WriteFile(e.Token, []byte(token+"\n"), 0o600))
	return e
}

// served is an agent that serves on TCP.
type served struct {
	agent   *Agent
	address string
	log     *buffer
}

func serveEnrolled(t *testing.T, e *Enrolment) *served {
	t.Helper()
	s := &served{log: &buffer{}}
	a, err := Prepare(Setup{BTF: t.TempDir(), Node: "worker-1", Enrolment: e, Log: slog.New(slog.NewTextHandler(s.log, nil))})
	require.NoError(t, err)
	listener, err := a.Listen("tcp://127.0.0.1:0", "")
	require.NoError(t, err)
	s.agent, s.address = a, listener.Addr().String()
	require.NoError(t, a.Announce(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		a.Close()
	})
	return s
}

// call asks the agent who it is.
func (s *served) call(t *testing.T, creds credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = wire.NewAgentClient(conn).Info(ctx, &wire.InfoRequest{})
	return err
}

func (c *controller) creds(pair *pki.KeyPair) credentials.TransportCredentials {
	agent, err := pki.Agent("worker-1")
	require.NoError(c.t, err)
	return credentials.NewTLS(pki.ClientConfig(pair.GetClientCertificate, c.roots(), agent))
}

func (s *served) awaitCertificate(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return !s.agent.pair.Expiry().IsZero() }, 10*time.Second, 10*time.Millisecond, s.log)
}

func TestOnlyTheControllerGetsInByTCP(t *testing.T) {
	c := newController(t)
	s := serveEnrolled(t, c.files("secret"))
	s.awaitCertificate(t)
	require.NoError(t, s.agent.ready())
	require.NoError(t, s.call(t, c.creds(c.pair)))
	require.Contains(t, s.log.String(), "peer connected")

	agent, err := pki.Agent("worker-2")
	require.NoError(t, err)
	other := newAuthority(t)
	for name, creds := range map[string]credentials.TransportCredentials{
		"another agent":                    c.creds(pairOf(t, c.authority, agent)),
		"a controller of another cluster":  c.creds(pairOf(t, other, pki.Controller)),
		"no certificate":                   credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
		"no TLS":                           insecure.NewCredentials(),
		"a controller that expects others": credentials.NewTLS(pki.ClientConfig(c.pair.GetClientCertificate, c.roots(), agent)),
		"a controller that trusts others":  credentials.NewTLS(pki.ClientConfig(c.pair.GetClientCertificate, rootsOf(t, other), "spiffe://nodegadget.dev/agent/worker-1")),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, codes.Unavailable, status.Code(s.call(t, creds)))
		})
	}
	require.Contains(t, s.log.String(), "peer refused")
	require.Contains(t, s.log.String(), "certificate specifies an incompatible key usage", "agents' certificates are no clients'")
	require.NotContains(t, s.log.String(), "secret", "tokens aren't logged")
	require.NoError(t, s.call(t, c.creds(c.pair)))
}

// TestCertificateIsAskedForAgain: the controller may come later, or not believe the
// token yet.
func TestCertificateIsAskedForAgain(t *testing.T) {
	c := newController(t)
	s := serveEnrolled(t, c.files("not yet"))
	require.Eventually(t, func() bool { return strings.Contains(s.log.String(), "who is that?") }, 10*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, s.agent.ready(), "no valid certificate")
	require.Equal(t, codes.Unavailable, status.Code(s.call(t, c.creds(c.pair))))
	// The kubelet replaces tokens.
	token := "not yet"
	c.token.Store(&token)
	s.awaitCertificate(t)
	require.NoError(t, s.call(t, c.creds(c.pair)))
}

func TestReplacedAuthority(t *testing.T) {
	c := newController(t)
	files := c.files("secret")
	roots := c.roots()
	a := New(Options{Node: "worker-1"})
	a.pair = &pki.KeyPair{}
	e := &enrolment{Enrolment: *files, node: "worker-1", roots: roots}
	cert, err := e.enrol(t.Context())
	require.NoError(t, err)
	a.pair.Set(cert)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.followAuthority(ctx, e, time.Millisecond)
	}()
	defer func() {
		cancel()
		<-done
	}()
	time.Sleep(50 * time.Millisecond)
	require.EqualValues(t, 1, c.issued.Load(), "nothing happens while nothing changes")

	// Both are trusted for a while; the controller still has the former's certificate.
	next := newAuthority(t)
	both := pki.MarshalCertificates(c.authority.Certificate(), next.Certificate())
	require.NoError(t, os.WriteFile(files.Authority, both, 0o600))
	require.Eventually(t, func() bool { return c.issued.Load() == 2 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		now, err := a.pair.GetCertificate(nil)
		return err == nil && now != cert
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, both, roots.PEM())

	// Half a file changes nothing.
	require.NoError(t, os.WriteFile(files.Authority, both[:100], 0o600))
	time.Sleep(50 * time.Millisecond)
	require.Equal(t, both, roots.PEM())
}

func TestEnrolmentRefusesWhatIsWrong(t *testing.T) {
	c := newController(t)
	good := c.files("secret")
	with := func(change func(*Enrolment)) *Enrolment {
		e := *good
		change(&e)
		return &e
	}
	noPEM := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(noPEM, []byte("x"), 0o600))
	for name, test := range map[string]struct {
		enrolment *Enrolment
		want      string
	}{
		"no controller": {with(func(e *Enrolment) { e.Controller = "" }), "all of --controller, --authority and --token"},
		"no authority":  {with(func(e *Enrolment) { e.Authority = "" }), "all of --controller, --authority and --token"},
		"no such file":  {with(func(e *Enrolment) { e.Authority = "/nonexistent" }), "reading the authority: "},
		"no PEM":        {with(func(e *Enrolment) { e.Authority = noPEM }), "no certificate in PEM"},
	} {
		_, err := Prepare(Setup{BTF: t.TempDir(), Node: "worker-1", Enrolment: test.enrolment})
		require.ErrorContains(t, err, test.want, name)
	}
	stranger := newController(t)
	for name, test := range map[string]struct {
		enrolment *Enrolment
		node      string
		want      string
	}{
		"another's certificate": {good, "worker-2", "the certificate is for spiffe://nodegadget.dev/agent/worker-1, but this is spiffe://nodegadget.dev/agent/worker-2: is --node-name right?"},
		"no node":               {good, "", "is no name of a node"},
		"no token":              {with(func(e *Enrolment) { e.Token = "/nonexistent" }), "worker-1", "reading the token: "},
		"look-alike":            {with(func(e *Enrolment) { e.Controller = stranger.address }), "worker-1", "certificate signed by unknown authority"},
	} {
		e := &enrolment{Enrolment: *test.enrolment, node: test.node, roots: c.roots()}
		_, err := e.enrol(t.Context())
		require.ErrorContains(t, err, test.want, name)
	}
	require.Zero(t, stranger.issued.Load(), "a look-alike gets nothing")
}

func TestTCPWithoutACertificateIsRefused(t *testing.T) {
	a := New(Options{Gadgets: catalog(t)})
	_, err := a.Listen("tcp://127.0.0.1:0", "")
	require.ErrorContains(t, err, "on TCP the agent serves only the controller, by mutual TLS")
	a.pair = &pki.KeyPair{}
	_, err = a.Listen("tcp://127.0.0.1:70000", "")
	require.ErrorContains(t, err, "listening: ")
	_, err = a.Listen("udp://x", "")
	require.ErrorContains(t, err, "is not of the form unix:///path")
}

// TestHalfOpenConnectionsKeepNobodyOut: those that say nothing give way.
func TestHalfOpenConnectionsKeepNobodyOut(t *testing.T) {
	c := newController(t)
	s := serveEnrolled(t, c.files("secret"))
	s.awaitCertificate(t)
	var strangers []net.Conn
	defer func() {
		for _, conn := range strangers {
			conn.Close()
		}
	}()
	for range 5 * maxStrangers {
		conn, err := net.Dial("tcp", s.address)
		require.NoError(t, err)
		strangers = append(strangers, conn)
	}
	require.NoError(t, s.call(t, c.creds(c.pair)))
	// The first have been closed, the last have not.
	require.NoError(t, strangers[0].SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err := strangers[0].Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}
