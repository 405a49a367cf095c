// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// fake answers as containerd does, from its fields.
type fake struct {
	mu sync.Mutex
	// containers are by namespace, images by name and the same in all.
	containers map[string][]*containersapi.Container
	images     map[string]*imagesapi.Image
	// hang makes every call last until its caller gives up.
	hang  bool
	calls map[string]int
}

// serve makes a fake answer at a socket until stop is called or the test ends.
func (f *fake) serve(tb testing.TB, path string) (stop func()) {
	tb.Helper()
	listener, err := net.Listen("unix", path)
	require.NoError(tb, err)
	server := grpc.NewServer(grpc.UnaryInterceptor(f.unary))
	containersapi.RegisterContainersServer(server, containersService{fake: f})
	imagesapi.RegisterImagesServer(server, imagesService{fake: f})
	namespacesapi.RegisterNamespacesServer(server, namespacesService{fake: f})
	versionapi.RegisterVersionServer(server, versionService{})
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
	f.count(info.FullMethod)
	if f.hanging() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return handle(ctx, request)
}

func (f *fake) hanging() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hang
}

func (f *fake) count(method string) {
	_, method, _ = strings.Cut(method, ".v1.")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[method]++
}

// taken are the calls since it was last asked.
func (f *fake) taken() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

type containersService struct {
	containersapi.UnimplementedContainersServer
	*fake
}

func (f containersService) Get(ctx context.Context, request *containersapi.GetContainerRequest) (*containersapi.GetContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	namespace, _ := namespaces.Namespace(ctx)
	for _, c := range f.containers[namespace] {
		if c.GetID() == request.GetID() {
			return &containersapi.GetContainerResponse{Container: c}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "container %q in namespace %q: not found", request.GetID(), namespace)
}

func (f containersService) ListStream(request *containersapi.ListContainersRequest, stream containersapi.Containers_ListStreamServer) error {
	f.count("/containerd.services.containers.v1.Containers/ListStream")
	filter, err := filters.ParseAll(request.GetFilters()...)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	namespace, _ := namespaces.Namespace(stream.Context())
	for _, c := range f.containers[namespace] {
		labels := filters.AdapterFunc(func(path []string) (string, bool) {
			value, ok := c.GetLabels()[path[1]]
			return value, ok && path[0] == "labels"
		})
		if filter.Match(labels) {
			if err := stream.Send(&containersapi.ListContainerMessage{Container: c}); err != nil {
				return err
			}
		}
	}
	return nil
}

type imagesService struct {
	imagesapi.UnimplementedImagesServer
	*fake
}

func (f imagesService) Get(_ context.Context, request *imagesapi.GetImageRequest) (*imagesapi.GetImageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if image, ok := f.images[request.GetName()]; ok {
		return &imagesapi.GetImageResponse{Image: image}, nil
	}
	return nil, status.Errorf(codes.NotFound, "image %q: not found", request.GetName())
}

type namespacesService struct {
	namespacesapi.UnimplementedNamespacesServer
	*fake
}

func (f namespacesService) List(context.Context, *namespacesapi.ListNamespacesRequest) (*namespacesapi.ListNamespacesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	response := &namespacesapi.ListNamespacesResponse{}
	for _, name := range slices.Sorted(maps.Keys(f.containers)) {
		response.Namespaces = append(response.Namespaces, &namespacesapi.Namespace{Name: name})
	}
	return response, nil
}

type versionService struct {
	versionapi.UnimplementedVersionServer
}

func (versionService) Version(context.Context, *emptypb.Empty) (*versionapi.VersionResponse, error) {
	return &versionapi.VersionResponse{Version: "v9.8.7"}, nil
}

// serveNothing answers that it doesn't know what it is asked for.
func serveNothing(tb testing.TB, path string) {
	tb.Helper()
	listener, err := net.Listen("unix", path)
	require.NoError(tb, err)
	server := grpc.NewServer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	tb.Cleanup(func() { server.Stop(); <-done })
}
