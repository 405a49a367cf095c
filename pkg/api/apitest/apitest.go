// SPDX-License-Identifier: Apache-2.0

// Package apitest serves, for tests, what of the Kubernetes API somebody meets who
// follows resources: lists and watches, in JSON or protobuf, whole objects or only their
// metadata; and an API server that is away, refuses, or has forgotten what was new.
package apitest

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// Options say what an API server serves, and how. It serves whoever asks in JSON.
type Options struct {
	// Kinds are those of the objects of each resource, by its path, such as "Pod" of
	// "/api/v1/pods". Resources that aren't among them are unknown.
	Kinds map[string]string
	// Protobuf makes it answer in protobuf, which only metadata can be had in.
	Protobuf bool
	// Streams says that watches may begin with what there is.
	Streams bool
	// Check says what is wrong with a request that must not come; nil takes all.
	Check func(request *http.Request) error
}

// Server is an API server, at the same address whenever it listens.
type Server struct {
	tb      testing.TB
	opts    Options
	info    runtime.SerializerInfo
	address string
	http    *httptest.Server

	mu        sync.Mutex // of what follows
	version   int
	resources map[string]*resource
	// news are all since forgotten; changed is closed when there are more.
	news      []news
	forgotten int
	changed   chan struct{}
	forbidden string
	stopped   chan struct{}
}

// resource is what there is of one, by namespace and name.
type resource struct {
	path, kind string
	undefined  bool
	objects    map[string]*unstructured.Unstructured
}

type news struct {
	version  int
	resource *resource
	kind     watch.EventType
	object   *unstructured.Unstructured
}

// New starts an API server without any objects. It stops when the test ends.
func New(tb testing.TB, opts Options) *Server {
	tb.Helper()
	const begin = 100
	s := &Server{tb: tb, opts: opts, address: "127.0.0.1:0", version: begin, forgotten: begin, resources: map[string]*resource{}, changed: make(chan struct{})}
	for path, kind := range opts.Kinds {
		s.resources[path] = &resource{path: path, kind: kind, objects: map[string]*unstructured.Unstructured{}}
	}
	media := runtime.ContentTypeJSON
	if opts.Protobuf {
		media = runtime.ContentTypeProtobuf
	}
	var ok bool
	s.info, ok = runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), media)
	require.True(tb, ok, media)
	s.Start()
	tb.Cleanup(s.Stop)
	return s
}

// Config is how to reach it, as often as one likes.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: "http://" + s.address, QPS: -1} }

// Start makes it listen again.
func (s *Server) Start() {
	s.tb.Helper()
	listener, err := net.Listen("tcp", s.address)
	require.NoError(s.tb, err)
	s.address = listener.Addr().String()
	s.mu.Lock()
	s.stopped = make(chan struct{})
	s.mu.Unlock()
	s.http = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(s.serve)}}
	s.http.Start()
}

// Stop breaks all connections. What there is stays, and may be changed.
func (s *Server) Stop() {
	if s.http == nil {
		return
	}
	close(s.stopped)
	s.http.CloseClientConnections()
	s.http.Close()
	s.http = nil
}

// Put makes an object, of whatever becomes a JSON object with metadata, or changes it.
func (s *Server) Put(path string, object any) {
	s.tb.Helper()
	text, err := json.Marshal(object)
	require.NoError(s.tb, err)
	u := &unstructured.Unstructured{}
	require.NoError(s.tb, json.Unmarshal(text, &u.Object))
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resources[path]
	u.SetAPIVersion(r.apiVersion())
	u.SetKind(r.kind)
	kind, key := watch.Modified, u.GetNamespace()+"/"+u.GetName()
	if r.objects[key] == nil {
		kind = watch.Added
	}
	r.objects[key] = u
	s.announce(r, kind, u)
}

// Remove deletes an object.
func (s *Server) Remove(path, namespace, name string) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r, key := s.resources[path], namespace+"/"+name
	object := r.objects[key]
	require.NotNil(s.tb, object, "%s %s", path, key)
	delete(r.objects, key)
	s.announce(r, watch.Deleted, object)
}

// announce tells of an object that has changed. The caller holds mu.
func (s *Server) announce(r *resource, kind watch.EventType, object *unstructured.Unstructured) {
	s.version++
	object.SetResourceVersion(strconv.Itoa(s.version))
	s.news = append(s.news, news{s.version, r, kind, object.DeepCopy()})
	close(s.changed)
	s.changed = make(chan struct{})
}

// Define makes a resource known, with the objects that it had; or unknown.
func (s *Server) Define(path string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources[path].undefined = !known
}

// Forget makes it answer that it doesn't know any more what was new.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.news, s.forgotten = nil, s.version
}

// Forbid makes it refuse everything from now on, for this reason; none ends that.
func (s *Server) Forbid(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forbidden = why
}
