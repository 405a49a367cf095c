// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/cluster"
	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/wire"
)

// TestMain leaves out what takes a second to close what its peer has closed already.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// relay notes with which headers it is asked.
type relay struct {
	wire.UnimplementedRelayServer
	mu      sync.Mutex
	headers metadata.MD
}

func (r *relay) Nodes(ctx context.Context, _ *wire.NodesRequest) (*wire.NodesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers, _ = metadata.FromIncomingContext(ctx)
	return &wire.NodesResponse{RelayVersion: strings.Repeat("v9", 1<<20)}, nil
}

func flagsFor(s *clustertest.Server) *genericclioptions.ConfigFlags {
	flags := genericclioptions.NewConfigFlags(false)
	*flags.KubeConfig = s.Kubeconfig
	return flags
}

func ask(tb testing.TB, flags *genericclioptions.ConfigFlags) (*wire.NodesResponse, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	c, err := cluster.Open(cluster.Options{Flags: flags})
	if err != nil {
		return nil, err
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Nodes(ctx)
}

func TestRelayIsReachedThroughTheAPIServer(t *testing.T) {
	for _, spdy := range []bool{false, true} {
		r := &relay{}
		s := clustertest.New(t, r)
		s.NoWebSockets = spdy
		flags := flagsFor(s)
		*flags.Impersonate, *flags.ImpersonateGroup = "john", []string{"a", "b"}
		response, err := ask(t, flags)
		require.NoError(t, err)
		require.Len(t, response.GetRelayVersion(), 2<<20, "larger than any window on the way")
		require.Equal(t, []string{"Bearer jane's token"}, r.headers.Get("authorization"))
		require.Equal(t, []string{"john"}, r.headers.Get("impersonate-user"))
		require.Equal(t, []string{"a", "b"}, r.headers.Get("impersonate-group"))
		ways := map[string]int{}
		for _, request := range s.Requests() {
			require.Equal(t, "Bearer jane's token", request.Header.Get("Authorization"))
			require.Equal(t, "john", request.Header.Get("Impersonate-User"))
			if strings.HasSuffix(request.URL.Path, "/portforward") {
				ways[request.Method+" "+request.Header.Get("Upgrade")]++
			}
		}
		want := map[string]int{"GET websocket": 1}
		if spdy {
			want["POST SPDY/3.1"] = 1
		}
		require.Equal(t, want, ways)
	}
}

func TestExecPluginsTokenReachesTheRelay(t *testing.T) {
	r := &relay{}
	s := clustertest.New(t, r)
	plugin := filepath.Join(t.TempDir(), "plugin")
	require.NoError(t, os.WriteFile(plugin, []byte(`#!/bin/sh
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"of the plugin"}}'
`), 0o700))
	config, err := os.ReadFile(s.Kubeconfig)
	require.NoError(t, err)
	changed := strings.Replace(string(config), "token: jane's token",
		"exec: {apiVersion: client.authentication.k8s.io/v1, command: "+plugin+", interactiveMode: Never}", 1)
	require.NotEqual(t, string(config), changed)
	require.NoError(t, os.WriteFile(s.Kubeconfig, []byte(changed), 0o600))
	_, err = ask(t, flagsFor(s))
	require.NoError(t, err)
	require.Equal(t, []string{"Bearer of the plugin"}, r.headers.Get("authorization"))
}

// TestWhatIsInTheWayIsSaid, and how to mend it.
func TestWhatIsInTheWayIsSaid(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*clustertest.Server)
		want   []string
	}{
		{
			"not installed", func(s *clustertest.Server) {
				s.Refuse("/nodegadget-authority", http.StatusNotFound, metav1.StatusReasonNotFound, "no such thing")
			},
			[]string{"nodegadget isn't installed in namespace nodegadget", "kubectl gadget deploy", "helm install", "--gadget-namespace"},
		},
		{
			"not installed, for a user without rights", func(s *clustertest.Server) {
				s.Refuse("/nodegadget-authority", http.StatusForbidden, metav1.StatusReasonForbidden, "jane may not")
			},
			[]string{"nodegadget isn't installed in namespace nodegadget", "jane may not"},
		},
		{
			"no right to list pods", func(s *clustertest.Server) {
				s.Refuse("/pods", http.StatusForbidden, metav1.StatusReasonForbidden, "jane may not")
			},
			[]string{"you may not list pods in namespace nodegadget", "nodegadget-connect"},
		},
		{
			"no right to forward", func(s *clustertest.Server) {
				s.Refuse("/portforward", http.StatusForbidden, metav1.StatusReasonForbidden, "jane may not")
			},
			[]string{"you may not create pods/portforward in namespace nodegadget", "nodegadget-connect"},
		},
		{"no controller ready", func(s *clustertest.Server) { s.Phase, s.Waiting = corev1.PodPending, "ImagePullBackOff" }, []string{
			"no controller is ready in namespace nodegadget: pod " + clustertest.Controller + " is Pending, ImagePullBackOff",
		}},
		{"controller not ready, and not there", func(s *clustertest.Server) {
			s.Phase, s.Waiting, s.ClosedPort = corev1.PodRunning, "CrashLoopBackOff", true
		}, []string{
			"no controller is ready in namespace nodegadget: pod " + clustertest.Controller + " is Running, CrashLoopBackOff",
		}},
		{"nobody listens", func(s *clustertest.Server) { s.ClosedPort = true }, []string{"connection refused"}},
		{"somebody else", func(s *clustertest.Server) { s.Identity = "spiffe://nodegadget.dev/agent/node1" }, []string{
			"making sure that it is the relay", "the peer is spiffe://nodegadget.dev/agent/node1",
		}},
		{"API server out of order", func(s *clustertest.Server) {
			s.Refuse("/nodegadget-authority", http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcd is gone")
		}, []string{"asking the API server", "etcd is gone"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := clustertest.New(t, &relay{})
			test.change(s)
			_, err := ask(t, flagsFor(s))
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "rpc error")
		})
	}
}

// TestAnotherRelayIsBetterThanNone, but only after a while: it doesn't know the sessions.
func TestAnotherRelayIsBetterThanNone(t *testing.T) {
	s := clustertest.New(t, &relay{})
	s.Controllers = []string{"another", "third"}
	c, err := cluster.Open(cluster.Options{Flags: flagsFor(s)})
	require.NoError(t, err)
	conn, err := c.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Nodes(t.Context())
	require.NoError(t, err)
	s.Refuse(clustertest.Controller+"/portforward", http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "no containerd")
	s.Break()
	require.Eventually(t, func() bool {
		_, err := conn.Nodes(t.Context())
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	asked := map[string]int{}
	for _, request := range s.Requests() {
		if pod, ok := strings.CutSuffix(request.URL.Path, "/portforward"); ok && request.Method == http.MethodGet {
			asked[filepath.Base(pod)]++
		}
	}
	require.Equal(t, map[string]int{clustertest.Controller: 1 + 5, "another": 1}, asked)
}

// TestControllerThatIsNotKnownToBeReady is reached if it can be.
func TestControllerThatIsNotKnownToBeReady(t *testing.T) {
	s := clustertest.New(t, &relay{})
	s.Phase = corev1.PodRunning
	_, err := ask(t, flagsFor(s))
	require.NoError(t, err)
}

// TestAPIServerThatComesBack is used again, within seconds.
func TestAPIServerThatComesBack(t *testing.T) {
	s := clustertest.New(t, &relay{})
	c, err := cluster.Open(cluster.Options{Flags: flagsFor(s)})
	require.NoError(t, err)
	conn, err := c.Connect(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Nodes(t.Context())
	require.NoError(t, err)
	s.Down()
	for range 20 {
		_, err = conn.Nodes(t.Context())
		require.Error(t, err)
		time.Sleep(100 * time.Millisecond)
	}
	s.Up(t)
	require.Eventually(t, func() bool {
		_, err = conn.Nodes(t.Context())
		return err == nil
	}, 10*time.Second, 50*time.Millisecond, "%v", err)
}

func TestKubeconfigWithoutAClusterIsAMistake(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	_, err := ask(t, genericclioptions.NewConfigFlags(false))
	var usage *client.UsageError
	require.ErrorAs(t, err, &usage)
	require.ErrorContains(t, err, "names no cluster")
}

func TestListForCompletion(t *testing.T) {
	s := clustertest.New(t, &relay{})
	s.Namespaces = []metav1.ObjectMeta{{Name: "shop"}, {Name: "bank"}}
	s.Nodes = []metav1.ObjectMeta{{Name: "node1"}}
	s.Pods = []metav1.ObjectMeta{{Namespace: "shop", Name: "cart"}, {Namespace: "bank", Name: "safe"}}
	c, err := cluster.Open(cluster.Options{Flags: flagsFor(s)})
	require.NoError(t, err)
	for _, test := range []struct {
		kind       cluster.Names
		namespaces []string
		want       []string
	}{
		{cluster.Namespaces, nil, []string{"shop", "bank"}},
		{cluster.Nodes, nil, []string{"node1"}},
		{cluster.Pods, nil, []string{"cart"}},
		{cluster.Pods, []string{"bank", "shop"}, []string{"safe", "cart"}},
		{cluster.Pods, []string{""}, []string{"cart", "safe"}},
		{cluster.Containers, []string{"shop"}, []string{"web", "side"}},
		{cluster.Contexts, nil, []string{"test"}},
		{cluster.Clusters, nil, []string{"test"}},
		{cluster.Users, nil, []string{"jane"}},
	} {
		got, err := c.List(t.Context(), test.kind, test.namespaces)
		require.NoError(t, err)
		require.Equal(t, test.want, got)
	}
	s.Refuse("/namespaces", http.StatusForbidden, metav1.StatusReasonForbidden, "jane may not")
	_, err = c.List(t.Context(), cluster.Namespaces, nil)
	require.ErrorContains(t, err, "listing namespaces: jane may not")
}
