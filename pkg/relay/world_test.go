// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/gadget"
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
	// rights are "user namespace" for pods, and "user host" for the rest.
	rights map[string]bool
}

// newWorld has user "admin", who may everything, and "jane", who may trace in "shop".
// A user's token is their name.
func newWorld(tb testing.TB, opts Options) *world {
	tb.Helper()
	w := &world{tb: tb, agents: map[string]*fakeAgent{}, rights: map[string]bool{"admin ": true, "admin host": true, "jane shop": true}}
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
	opts.Fleet, opts.Gate = w.fleet, access.New(access.Options{Client: w.kubernetes(), Namespace: "nodegadget"})
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
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: review.Spec.Token}}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		what := review.Spec.ResourceAttributes.Namespace
		if review.Spec.ResourceAttributes.Resource == "clustertracesessions" {
			what = "host"
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		review.Status.Allowed = w.rights[review.Spec.User+" "+what]
		return true, review, nil
	})
	return client
}

func (w *world) allow(right string, allowed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rights[right] = allowed
}

// serve serves the relay and connects to it, until the test ends.
func (w *world) serve() {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(ServerOptions()...)
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

// fakeAgent is an agent that does as its test wants.
type fakeAgent struct {
	wire.UnimplementedAgentServer
	node    string
	address string
	server  *grpc.Server
	served  chan error
	// play is what a run does; stop is closed when the client has asked for the end.
	play func(start *wire.Start, run *agentRun) error

	mu     sync.Mutex
	starts []*wire.Start
}

// agentRun is one run of a fake agent.
type agentRun struct {
	grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]
	stop chan struct{}
	// sequence counts records.
	sequence uint64
}

func (a *fakeAgent) Info(context.Context, *wire.InfoRequest) (*wire.InfoResponse, error) {
	return &wire.InfoResponse{Protocol: wire.Current(), AgentVersion: "v1", Node: &wire.Node{Name: a.node}}, nil
}

func (a *fakeAgent) Catalog(context.Context, *wire.CatalogRequest) (*wire.CatalogResponse, error) {
	return &wire.CatalogResponse{Gadgets: []*wire.Gadget{{Name: "trace_x"}, {Name: "trace_" + a.node}}}, nil
}

func (a *fakeAgent) Doctor(context.Context, *wire.DoctorRequest) (*wire.DoctorResponse, error) {
	return &wire.DoctorResponse{Findings: []*wire.Finding{{Problem: "no BTF on " + a.node}}}, nil
}

func (a *fakeAgent) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.starts = append(a.starts, first.GetStart())
	a.mu.Unlock()
	run := &agentRun{BidiStreamingServer: stream, stop: make(chan struct{})}
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil || request.GetStop() != nil {
				close(run.stop)
				return
			}
		}
	}()
	return a.play(first.GetStart(), run)
}

func (a *fakeAgent) started() []*wire.Start {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.starts
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

// eventHeader is that of a gadget whose records are their time and a number.
func eventHeader(boot int64) *wire.Header {
	return &wire.Header{
		Protocol: wire.Current(), BootTime: boot,
		Gadget: &wire.Gadget{Name: "trace_x", Source: &wire.Source{Kind: uint32(gadget.Events), Size: 16, Fields: []*wire.Field{
			{Name: "time", Size: 8, Kind: uint32(gadget.Uint), Semantic: string(gadget.Timestamp)},
			{Name: "n", Offset: 8, Size: 8, Kind: uint32(gadget.Uint)},
		}}},
	}
}

func (r *agentRun) header(header *wire.Header) error {
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}})
}

// begin sends the header of a node that has just booted.
func (r *agentRun) begin() error { return r.header(eventHeader(time.Now().UnixNano())) }

func record(at, n uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, at), n)
}

// event is a record of a container.
type event struct {
	ref    uint32
	record []byte
}

// events sends a batch.
func (r *agentRun) events(events ...event) error {
	b := &wire.Batch{Sequence: r.sequence, Count: uint32(len(events))}
	for _, e := range events {
		b.Records = wire.AppendRecord(b.Records, e.ref, e.record)
	}
	r.sequence += uint64(len(events))
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_Batch{Batch: b}})
}

// numbers sends count records, numbered on, of the container with the reference.
func (r *agentRun) numbers(ref uint32, count int) error {
	var events []event
	for i := range count {
		events = append(events, event{ref, record(0, r.sequence+uint64(i))})
	}
	return r.events(events...)
}

func (r *agentRun) explain(containers ...*wire.Container) error {
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_Containers{Containers: &wire.Containers{Containers: containers}}})
}

// end waits for the stop and ends in good order.
func (r *agentRun) end(loss *wire.Loss) error {
	<-r.stop
	if r.Context().Err() != nil {
		return r.Context().Err()
	}
	return r.Send(&wire.RunResponse{Response: &wire.RunResponse_End{End: &wire.End{Records: r.sequence, Loss: loss}}})
}

// quiet begins, and ends when it is stopped.
func quiet(_ *wire.Start, run *agentRun) error {
	if err := run.begin(); err != nil {
		return err
	}
	return run.end(nil)
}

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
		require.NoError(v.tb, err, "after %v", summary(v.got))
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
	require.Error(v.tb, err, "after %v", summary(v.got))
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
			s := seen{at: binary.LittleEndian.Uint64(record), number: uint32(binary.LittleEndian.Uint64(record[8:])), container: explained[ref]}
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
