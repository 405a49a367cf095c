// SPDX-License-Identifier: Apache-2.0

// Package clustertest serves, for tests, what of a cluster with nodegadget a plugin
// meets: a few resources of the API, and port-forwarding to a relay, over WebSockets
// and SPDY.
package clustertest

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

// Server is a cluster. Change its exported fields before it is asked.
type Server struct {
	// Kubeconfig is the path of a file for clients, whose current namespace is shop.
	Kubeconfig string
	// Pods, Namespaces and Nodes are what there is, by namespace and name.
	Pods, Namespaces, Nodes []metav1.ObjectMeta
	// Controllers are names of pods with the relay beside the first.
	Controllers []string
	// Phase is that of controllers' pods which aren't ready; empty if they are. Waiting
	// is what their container waits for.
	Phase   corev1.PodPhase
	Waiting string
	// NoWebSockets lets only SPDY through.
	NoWebSockets bool
	// ClosedPort makes the kubelet say that nobody listens at the pod's port.
	ClosedPort bool
	// Identity is whose certificate the relay shows.
	Identity pki.Identity
	// NoDefinitions makes that the API server knows no custom resources.
	NoDefinitions bool

	api       *httptest.Server
	authority *pki.Authority
	relay     *bufconn.Listener

	mu       sync.Mutex
	refused  map[string]metav1.Status
	requests []*http.Request
	forwards []func() error
	objects  objects
	serial   int
}

// Controller is the name of the relay's pod.
const Controller = "nodegadget-controller-7d9f"

// New starts a cluster with the relay, until the test ends.
func New(tb testing.TB, relay wire.RelayServer) *Server {
	tb.Helper()
	s := &Server{Identity: pki.Controller, refused: map[string]metav1.Status{}, objects: objects{}, relay: bufconn.Listen(1 << 20)}
	var err error
	s.authority, err = pki.NewAuthority()
	require.NoError(tb, err)

	grpcServer := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate() },
	})))
	wire.RegisterRelayServer(grpcServer, relay)
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(s.relay) }()

	s.api = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	s.writeKubeconfig(tb, s.api)
	tb.Cleanup(func() {
		s.Down()
		grpcServer.Stop()
		require.NoError(tb, <-served)
	})
	return s
}

func (s *Server) certificate() (*tls.Certificate, error) {
	request, err := pki.NewRequest()
	if err != nil {
		return nil, err
	}
	der, err := s.authority.Issue(request.CSR, pki.Leaf{Identity: s.Identity})
	if err != nil {
		return nil, err
	}
	return request.Certificate(der)
}

func (s *Server) writeKubeconfig(tb testing.TB, api *httptest.Server) {
	tb.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{
		Server:                   api.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}),
	}
	config.AuthInfos["jane"] = &clientcmdapi.AuthInfo{Token: "jane's token"}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "jane", Namespace: "shop"}
	config.CurrentContext = "test"
	s.Kubeconfig = filepath.Join(tb.TempDir(), "kubeconfig")
	require.NoError(tb, clientcmd.WriteToFile(*config, s.Kubeconfig))
	require.NoError(tb, os.Chmod(s.Kubeconfig, 0o600))
}

// Requests are those that the API server has got.
func (s *Server) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

// Refuse answers requests whose path ends so with an error of the API server.
func (s *Server) Refuse(suffix string, code int32, reason metav1.StatusReason, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[suffix] = metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}
}

// Break ends all forwarded connections, as the end of an API server does.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, end := range s.forwards {
		// It may have ended by itself.
		_ = end()
	}
	s.forwards = nil
}

// Down ends the API server, and all that goes through it.
func (s *Server) Down() {
	s.Break()
	s.api.CloseClientConnections()
	s.api.Close()
}

// Up starts it again where it was.
func (s *Server) Up(tb testing.TB) {
	tb.Helper()
	listener, err := net.Listen("tcp", s.api.Listener.Addr().String())
	require.NoError(tb, err)
	s.api = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(s.serve)}}
	s.api.StartTLS()
}

// serve is the API server.
func (s *Server) serve(w http.ResponseWriter, request *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, request.Clone(request.Context()))
	refused, status := false, metav1.Status{}
	for suffix := range s.refused {
		if strings.HasSuffix(request.URL.Path, suffix) {
			refused, status = true, s.refused[suffix]
		}
	}
	s.mu.Unlock()
	if refused {
		answer(w, int(status.Code), status)
		return
	}
	if strings.HasPrefix(request.URL.Path, group) {
		s.serveObjects(w, request)
		return
	}
	path := strings.TrimPrefix(request.URL.Path, "/api/v1/")
	switch {
	case strings.HasSuffix(path, "/portforward"):
		s.forward(w, request)
	case path == "namespaces/nodegadget/configmaps/nodegadget-authority":
		answer(w, http.StatusOK, corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			Data:     map[string]string{"ca.crt": string(pki.MarshalCertificates(s.authority.Certificate()))},
		})
	case path == "namespaces/nodegadget/pods":
		answer(w, http.StatusOK, s.controllers())
	case strings.HasSuffix(path, "pods"):
		answer(w, http.StatusOK, s.pods(strings.TrimSuffix(strings.TrimPrefix(path, "namespaces/"), "/pods")))
	case path == "namespaces":
		list := corev1.NamespaceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NamespaceList"}}
		for _, meta := range s.Namespaces {
			list.Items = append(list.Items, corev1.Namespace{ObjectMeta: meta})
		}
		answer(w, http.StatusOK, list)
	case path == "nodes":
		list := corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}}
		for _, meta := range s.Nodes {
			list.Items = append(list.Items, corev1.Node{ObjectMeta: meta})
		}
		answer(w, http.StatusOK, list)
	default:
		http.NotFound(w, request)
	}
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A client that is gone gets nothing.
	_ = json.NewEncoder(w).Encode(value)
}

func (s *Server) controllers() corev1.PodList {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, name := range append([]string{Controller}, s.Controllers...) {
		list.Items = append(list.Items, s.controller(name))
	}
	return list
}

func (s *Server) controller(name string) corev1.Pod {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "nodegadget", Name: name}}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if s.Phase != "" {
		pod.Status.Phase = s.Phase
		pod.Status.Conditions[0].Status = corev1.ConditionFalse
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: s.Waiting}},
		}}
	}
	return pod
}

func (s *Server) pods(namespace string) corev1.PodList {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, meta := range s.Pods {
		if namespace == meta.Namespace || namespace == "pods" {
			list.Items = append(list.Items, corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "web"}, {Name: "side"}},
			}})
		}
	}
	return list
}
