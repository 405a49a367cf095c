// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fake answers as containerd does, from its fields.
type fake struct {
	containersapi.UnimplementedContainersServer
	imagesapi.UnimplementedImagesServer
	namespacesapi.UnimplementedNamespacesServer
	versionapi.UnimplementedVersionServer

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
	containersapi.RegisterContainersServer(server, f)
	imagesapi.RegisterImagesServer(server, images{f})
	namespacesapi.RegisterNamespacesServer(server, spaces{f})
	versionapi.RegisterVersionServer(server, f)
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
	f.count(filepath.Base(filepath.Dir(info.FullMethod)) + "/" + filepath.Base(info.FullMethod))
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

func (f *fake) Get(ctx context.Context, request *containersapi.GetContainerRequest) (*containersapi.GetContainerResponse, error) {
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

func (f *fake) ListStream(request *containersapi.ListContainersRequest, stream containersapi.Containers_ListStreamServer) error {
	f.count("containerd.services.containers.v1.Containers/ListStream")
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

func (f *fake) Version(context.Context, *emptypb.Empty) (*versionapi.VersionResponse, error) {
	return &versionapi.VersionResponse{Version: "v9.8.7"}, nil
}

// images and spaces are other services of the fake, whose methods have the same names.
type images struct{ *fake }

func (i images) Get(_ context.Context, request *imagesapi.GetImageRequest) (*imagesapi.GetImageResponse, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if image, ok := i.images[request.GetName()]; ok {
		return &imagesapi.GetImageResponse{Image: image}, nil
	}
	return nil, status.Errorf(codes.NotFound, "image %q: not found", request.GetName())
}

func (i images) List(context.Context, *imagesapi.ListImagesRequest) (*imagesapi.ListImagesResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not asked for")
}

func (i images) Update(context.Context, *imagesapi.UpdateImageRequest) (*imagesapi.UpdateImageResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not asked for")
}
