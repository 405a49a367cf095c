// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func apiNotFound(resource string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: resource}, AuthorityName)
}

// running is a controller that serves on loopback.
type running struct {
	t             *testing.T
	client        *fake.Clientset
	address, http string
	// stop ends it, and waits until it has ended.
	stop func()
}

// start runs a controller in a cluster where a token is its user's name, and that of an
// agent "agent:" and its node's. User "admin" may everything.
func start(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, client: fake.NewClientset()}
	r.client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: review.Spec.Token}}
		if node, ok := strings.CutPrefix(review.Spec.Token, "agent:"); ok {
			review.Status.Audiences = review.Spec.Audiences
			review.Status.User.Username = "system:serviceaccount:" + namespace + ":" + access.AgentAccount
			review.Status.User.Extra = map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/node-name": {node}}
		}
		return true, review, nil
	})
	r.client.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		review.Status.Allowed = review.Spec.User == "admin"
		return true, review, nil
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.address, r.http = listener.Addr().String(), "http://"+web.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	c, err := prepare(ctx, Options{Namespace: namespace, Log: slog.New(slog.DiscardHandler)}, r.client)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- c.serve(ctx, listener, web) }()
	ended := false
	r.stop = func() {
		cancel()
		if !ended {
			ended = true
			require.NoError(t, <-served)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// connect is a connection as the plugin's: whom it talks to, the ConfigMap says.
func (r *running) connect(identity pki.Identity) *grpc.ClientConn {
	r.t.Helper()
	roots, err := pki.NewRoots([]byte(published(r.t, r.client)))
	require.NoError(r.t, err)
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientConfig(nil, roots, identity))))
	require.NoError(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func as(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.http+path, nil)
	require.NoError(r.t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return response.StatusCode, string(body)
}

// enrolled is an agent that has enrolled as the real one does, and answers Info.
type enrolled struct {
	wire.UnimplementedAgentServer
	node string
	run  func(grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error
}

func (e *enrolled) Info(context.Context, *wire.InfoRequest) (*wire.InfoResponse, error) {
	return &wire.InfoResponse{AgentVersion: "of " + e.node}, nil
}

func (e *enrolled) Run(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	return e.run(stream)
}

// quiet is a gadget that shows nothing.
func quiet(stream grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error {
	header := &wire.Header{Protocol: wire.Current(), Gadget: &wire.Gadget{Name: "trace_x"}}
	if err := stream.Send(&wire.RunResponse{Response: &wire.RunResponse_Header{Header: header}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// enrol gets a certificate and serves an agent with it; it returns the port.
func (r *running) enrol(node string) int32 {
	r.t.Helper()
	return r.enrolAs(node, quiet)
}

func (r *running) enrolAs(node string, run func(grpc.BidiStreamingServer[wire.RunRequest, wire.RunResponse]) error) int32 {
	r.t.Helper()
	request, err := pki.NewRequest()
	require.NoError(r.t, err)
	response, err := wire.NewEnrolmentClient(r.connect(pki.Controller)).Enrol(as(r.t.Context(), "agent:"+node), &wire.EnrolRequest{Csr: request.CSR})
	require.NoError(r.t, err)
	cert, err := request.Certificate(response.GetCertificate())
	require.NoError(r.t, err)
	roots, err := pki.NewRoots(response.GetAuthority())
	require.NoError(r.t, err)
	pair := &pki.KeyPair{}
	pair.Set(cert)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(pki.ServerConfig(pair, roots, pki.Controller))))
	wire.RegisterAgentServer(server, &enrolled{node: node, run: run})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	r.t.Cleanup(func() {
		server.Stop()
		require.NoError(r.t, <-served)
	})
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(r.t, err)
	number, err := strconv.ParseInt(port, 10, 32)
	require.NoError(r.t, err)
	return int32(number)
}

// TestControllerBringsClientsAndAgentsTogether, from nothing: the authority is made,
// agents enrol, their pods are found, a client sees them, and one that goes is missed.
func TestControllerBringsClientsAndAgentsTogether(t *testing.T) {
	r := start(t)
	relay := wire.NewRelayClient(r.connect(pki.Controller))
	pods := r.client.CoreV1().Pods(namespace)
	for _, node := range []string{"node1", "node2"} {
		_, err := pods.Create(t.Context(), agentPod("agent-"+node, node, "127.0.0.1", r.enrol(node), nil), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	nodes := func() (names []string) {
		response, err := relay.Nodes(as(t.Context(), "admin"), &wire.NodesRequest{})
		require.NoError(t, err)
		for _, report := range response.GetNodes() {
			names = append(names, report.GetName()+" "+report.GetInfo().GetAgentVersion()+report.GetError())
		}
		return names
	}
	require.Eventually(t, func() bool {
		got := nodes()
		return len(got) == 2 && got[0] == "node1 of node1" && got[1] == "node2 of node2"
	}, patience, 10*time.Millisecond)
	code, text := r.get("/readyz")
	require.Equal(t, http.StatusOK, code, text)
	code, _ = r.get("/healthz")
	require.Equal(t, http.StatusOK, code)
	_, metrics := r.get("/metrics")
	for _, want := range []string{
		`nodegadget_relay_node_up{node="node1"} 1`, "nodegadget_relay_sessions 0", `nodegadget_relay_streams_withdrawn_total{reason="right"} 0`,
		"nodegadget_relay_certificates_issued_total 2",
		"nodegadget_relay_certificate_expiry_seconds", "nodegadget_relay_build_info", "process_resident_memory_bytes",
	} {
		require.Contains(t, metrics, want)
	}
	require.NoError(t, pods.Delete(t.Context(), "agent-node1", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return len(nodes()) == 1 }, patience, 10*time.Millisecond)

	_, err := relay.Nodes(t.Context(), &wire.NodesRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	_, err = relay.Nodes(as(t.Context(), "jane"), &wire.NodesRequest{})
	require.Equal(t, codes.PermissionDenied, status.Code(err))
}

func TestOnlyAgentsEnrol(t *testing.T) {
	r := start(t)
	enrolment := wire.NewEnrolmentClient(r.connect(pki.Controller))
	request, err := pki.NewRequest()
	require.NoError(t, err)
	for _, test := range []struct {
		name, token string
		csr         []byte
		code        codes.Code
	}{
		{"nobody", "", request.CSR, codes.Unauthenticated},
		{"a user", "admin", request.CSR, codes.Unauthenticated},
		{"a node that can't be", "agent:../controller", request.CSR, codes.PermissionDenied},
		{"no request", "agent:node1", nil, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			if test.token != "" {
				ctx = as(ctx, test.token)
			}
			_, err := enrolment.Enrol(ctx, &wire.EnrolRequest{Csr: test.csr})
			require.Equal(t, test.code, status.Code(err), "%v", err)
		})
	}
	_, metrics := r.get("/metrics")
	require.Contains(t, metrics, "nodegadget_relay_certificates_refused_total 4")
}

// TestCheckProvesTheController, which helm test does.
func TestCheckProvesTheController(t *testing.T) {
	r := start(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(file, []byte(published(t, r.client)), 0o600))
	require.NoError(t, Check(t.Context(), r.address, file))
	other, err := newAuthoritySecret()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, other.Data["tls.crt"], 0o600))
	require.ErrorContains(t, Check(t.Context(), r.address, file), "signed by unknown authority")
	require.ErrorContains(t, Check(t.Context(), r.address, filepath.Join(t.TempDir(), "none")), "reading the authority")
}

// TestHalfOpenConnectionsDontStopOthers: many that say nothing, and one that does.
func TestHalfOpenConnectionsDontStopOthers(t *testing.T) {
	r := start(t)
	var idle []net.Conn
	for range 500 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address)
		require.NoError(t, err)
		idle = append(idle, conn)
	}
	_, err := wire.NewRelayClient(r.connect(pki.Controller)).Nodes(as(t.Context(), "admin"), &wire.NodesRequest{})
	require.NoError(t, err)
	for _, conn := range idle {
		require.NoError(t, conn.Close())
	}
}

// TestShutdownTellsClients: they can go on with another controller at once.
func TestShutdownTellsClients(t *testing.T) {
	r := start(t)
	_, err := r.client.CoreV1().Pods(namespace).Create(t.Context(), agentPod("a", "node1", "127.0.0.1", r.enrol("node1"), nil), metav1.CreateOptions{})
	require.NoError(t, err)
	relay := wire.NewRelayClient(r.connect(pki.Controller))
	ctx, cancel := context.WithTimeout(as(t.Context(), "admin"), patience)
	defer cancel()
	require.Eventually(t, func() bool {
		response, err := relay.Nodes(ctx, &wire.NodesRequest{})
		return err == nil && len(response.GetNodes()) == 1
	}, patience, 10*time.Millisecond)
	stream, err := relay.Run(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: &wire.Start{
		Protocol: wire.Current(), Gadget: "trace_x", Nodes: []string{"node1"},
	}}}))
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, []string{"node1"}, first.GetSession().GetNodes())
	header, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, "node1", header.GetHeader().GetNode().GetName())
	r.stop()
	for err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.Contains(t, err.Error(), "the relay is shutting down")
}

// TestOldClientsAreRefused: nothing but TLS 1.3 is spoken.
func TestOldClientsAreRefused(t *testing.T) {
	r := start(t)
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	_, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", r.address)
	require.ErrorContains(t, err, "protocol version not supported")
}
