// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// world is a relay with agents and a client, all in this process.
type world struct {
	tb        testing.TB
	authority *pki.Authority
	fleet     *Fleet
	relay     *Relay
	conn      *grpc.ClientConn
	client    wire.RelayClient

	mu     sync.Mutex
	agents map[string]*fakeAgent
	// rights are "user namespace" for pods, and "user host" for the rest; to read what
	// trace sessions recorded, "user read namespace" and "user read host".
	rights map[string]bool
	// void are tokens that count for nothing.
	void map[string]bool
	// away says that the API server can't be reached, silent that it answers no review.
	away, silent bool
	// shown is the certificate that clients show, signed by users; nil: none.
	shown *x509.Certificate
	users *x509.CertPool
}

// newWorld has user "admin", who may everything, and "jane", who may trace in "shop".
// A user's token is their name.
func newWorld(tb testing.TB, opts Options) *world {
	tb.Helper()
	w := &world{tb: tb, agents: map[string]*fakeAgent{}, void: map[string]bool{}, users: x509.NewCertPool(), rights: map[string]bool{"admin ": true, "admin host": true, "jane shop": true}}
	var err error
	w.authority, err = pki.NewAuthority()
	require.NoError(tb, err)
	roots, err := pki.NewRoots(pki.MarshalCertificates(w.authority.Certificate()))
	require.NoError(tb, err)
	own := w.issue(pki.Controller)
	w.fleet = NewFleet(func(node string) (*tls.Config, error) {
		identity, err := pki.Agent(node)
		return pki.ClientConfig(own.GetClientCertificate, roots, identity), err
	})
	tb.Cleanup(w.fleet.Close)
	opts.Fleet, opts.Gate = w.fleet, access.New(access.Options{
		Client: w.kubernetes(), Namespace: "nodegadget",
		ClientCA: func() (x509.VerifyOptions, bool) {
			return x509.VerifyOptions{Roots: w.users, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, true
		},
	})
	w.relay = New(opts)
	w.serve()
	return w
}

func (w *world) issue(identity pki.Identity) *pki.KeyPair {
	request, err := pki.NewRequest()
	require.NoError(w.tb, err)
	der, err := w.authority.Issue(request.CSR, pki.Leaf{Identity: identity})
	require.NoError(w.tb, err)
	cert, err := request.Certificate(der)
	require.NoError(w.tb, err)
	pair := &pki.KeyPair{}
	pair.Set(cert)
	return pair
}

func (w *world) kubernetes() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		w.mu.Lock()
		defer w.mu.Unlock()
		review.Status = authenticationv1.TokenReviewStatus{
			Authenticated: !w.void[review.Spec.Token], User: authenticationv1.UserInfo{Username: review.Spec.Token},
		}
		return true, review, w.problem()
	})
	client.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.away {
			return true, nil, errors.New("connection refused")
		}
		return true, &authorizationv1.SelfSubjectAccessReview{}, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		what := review.Spec.ResourceAttributes.Namespace
		if review.Spec.ResourceAttributes.Resource == "clustertracesessions" {
			what = "host"
		}
		if review.Spec.ResourceAttributes.Verb == "get" {
			what = "read " + what
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		review.Status.Allowed = w.rights[review.Spec.User+" "+what]
		return true, review, w.problem()
	})
	return client
}

// problem is why the API server answers no review.
func (w *world) problem() error {
	if w.silent {
		return errors.New("connection refused")
	}
	return nil
}

// setAway says whether the API server can't be reached.
func (w *world) setAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
}

func (w *world) setSilent(silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = silent
}

func (w *world) allow(right string, allowed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rights[right] = allowed
}

// serve serves the relay and connects to it, until the test ends.
func (w *world) serve() {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(append(ServerOptions(), grpc.StreamInterceptor(w.show))...)
	wire.RegisterRelayServer(server, w.relay)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	w.conn, err = grpc.NewClient("passthrough:///relay",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(wire.Window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(w.tb, err)
	w.client = wire.NewRelayClient(w.conn)
	w.tb.Cleanup(func() {
		require.NoError(w.tb, w.conn.Close())
		w.relay.Close()
		server.Stop()
		require.NoError(w.tb, <-served)
	})
}

// showing is a stream whose client has shown a certificate.
type showing struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *showing) Context() context.Context { return s.ctx }

// show serves a stream as if its client had shown w's certificate.
func (w *world) show(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	w.mu.Lock()
	shown := w.shown
	w.mu.Unlock()
	if shown != nil {
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown}}
		stream = &showing{stream, peer.NewContext(stream.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})}
	}
	return handler(service, stream)
}

// agent serves an agent on loopback, with mutual TLS, and makes it part of the fleet.
func (w *world) agent(node string, play func(*wire.Start, *agentRun) error) *fakeAgent {
	w.tb.Helper()
	a := &fakeAgent{node: node, play: play}
	w.listen(a, "127.0.0.1:0")
	w.mu.Lock()
	w.agents[node] = a
	w.mu.Unlock()
	w.tb.Cleanup(a.halt)
	w.enlist()
	return a
}

func (w *world) listen(a *fakeAgent, address string) {
	w.tb.Helper()
	identity, err := pki.Agent(a.node)
	require.NoError(w.tb, err)
	w.listenAs(a, address, identity)
}

func (w *world) listenAs(a *fakeAgent, address string, identity pki.Identity) {
	w.tb.Helper()
	roots, err := pki.NewRoots(pki.MarshalCertificates(w.authority.Certificate()))
	require.NoError(w.tb, err)
	listener, err := net.Listen("tcp", address)
	require.NoError(w.tb, err)
	a.address = listener.Addr().String()
	a.server = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(pki.ServerConfig(w.issue(identity), roots, pki.Controller))),
		grpc.InitialWindowSize(wire.Window), grpc.InitialConnWindowSize(wire.Window))
	wire.RegisterAgentServer(a.server, a)
	a.served = make(chan error, 1)
	server, served := a.server, a.served
	go func() { served <- server.Serve(listener) }()
}

// halt is the agent's sudden death.
func (a *fakeAgent) halt() {
	if a.server != nil {
		a.server.Stop()
		<-a.served
		a.server = nil
	}
}

// enlist tells the fleet which agents there are.
func (w *world) enlist(without ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var agents []Agent
	for node, a := range w.agents {
		agents = append(agents, Agent{Node: node, Address: a.address})
	}
	for _, node := range without {
		for i := range agents {
			if agents[i].Node == node {
				agents = append(agents[:i], agents[i+1:]...)
				break
			}
		}
	}
	w.fleet.Set(agents)
}
