// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fake answers as a runtime does, from its fields.
type fake struct {
	runtime.UnimplementedRuntimeServiceServer

	mu         sync.Mutex
	containers []*runtime.ContainerStatus
	sandboxes  []*runtime.PodSandboxStatus
	// notFound is the error for what it doesn't have; nil is CRI-O's.
	notFound error
	// hang makes every call last until its caller gives up.
	hang  bool
	calls []string
}

// serve makes a fake answer at a socket until stop is called or the test ends.
func (f *fake) serve(tb testing.TB, path string) (stop func()) {
	tb.Helper()
	listener, err := net.Listen("unix", path)
	require.NoError(tb, err)
	server := grpc.NewServer(grpc.UnaryInterceptor(f.unary))
	runtime.RegisterRuntimeServiceServer(server, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	stop = func() { server.Stop(); <-done }
	tb.Cleanup(stop)
	return stop
}

func (f *fake) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	f.calls = append(f.calls, info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:])
	hang := f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return handle(ctx, request)
}

// taken are the calls since it was last asked.
func (f *fake) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fake) missing(id string) error {
	if f.notFound != nil {
		return f.notFound
	}
	return status.Errorf(codes.NotFound, "could not find %q: ID does not exist", id)
}

func (f *fake) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{Version: "0.1.0", RuntimeName: "cri-o", RuntimeVersion: "1.36.1", RuntimeApiVersion: "v1"}, nil
}

// ContainerStatus takes the beginning of an id for an id, as runtimes do.
func (f *fake) ContainerStatus(_ context.Context, request *runtime.ContainerStatusRequest) (*runtime.ContainerStatusResponse, error) {
	for _, c := range f.containers {
		if strings.HasPrefix(c.GetId(), request.GetContainerId()) {
			return &runtime.ContainerStatusResponse{Status: c}, nil
		}
	}
	return nil, f.missing(request.GetContainerId())
}

func (f *fake) PodSandboxStatus(_ context.Context, request *runtime.PodSandboxStatusRequest) (*runtime.PodSandboxStatusResponse, error) {
	for _, s := range f.sandboxes {
		if strings.HasPrefix(s.GetId(), request.GetPodSandboxId()) {
			return &runtime.PodSandboxStatusResponse{Status: s}, nil
		}
	}
	return nil, f.missing(request.GetPodSandboxId())
}

func (f *fake) ListPodSandbox(_ context.Context, request *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	response := &runtime.ListPodSandboxResponse{}
	for _, s := range f.sandboxes {
		matches := true
		for key, value := range request.GetFilter().GetLabelSelector() {
			matches = matches && s.GetLabels()[key] == value
		}
		if matches {
			response.Items = append(response.Items, &runtime.PodSandbox{Id: s.GetId(), Labels: s.GetLabels(), CreatedAt: s.GetCreatedAt()})
		}
	}
	return response, nil
}
