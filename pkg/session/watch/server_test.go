// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// object is one as it is sent.
type object = map[string]any

// server speaks the API server's protocol for the two kinds, from its fields.
type server struct {
	tb testing.TB
	// streams says that watches may begin with what there is.
	streams bool

	mu      sync.Mutex
	version int
	// objects are by resource and name; a resource that isn't there is unknown.
	objects map[string]map[string]object
	news    []news
	changed chan struct{}
	lists   int
	// refuse is an HTTP status that everything is answered with; 0: nothing is refused.
	refuse int

	address string
	http    *httptest.Server
	stopped chan struct{}
}

type news struct {
	version        int
	resource, kind string
	object         object
}

func newServer(tb testing.TB, streams bool, known ...string) *server {
	tb.Helper()
	s := &server{tb: tb, streams: streams, version: 100, objects: map[string]map[string]object{}, changed: make(chan struct{})}
	for _, resource := range known {
		s.objects[resource] = map[string]object{}
	}
	s.start()
	tb.Cleanup(s.stop)
	return s
}

func (s *server) config() *rest.Config { return &rest.Config{Host: "http://" + s.address, QPS: -1} }

// start listens where it listened before.
func (s *server) start() {
	s.tb.Helper()
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	require.NoError(s.tb, err)
	s.address = listener.Addr().String()
	s.stopped = make(chan struct{})
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Listener.Close()
	s.http.Listener = listener
	s.http.Start()
}

// stop breaks all connections.
func (s *server) stop() {
	if s.http != nil {
		close(s.stopped)
		s.http.CloseClientConnections()
		s.http.Close()
		s.http = nil
	}
}

// define makes a resource known.
func (s *server) define(resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[resource] = map[string]object{}
}

// put makes an object, or changes it.
func (s *server) put(resource string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, name := "MODIFIED", o["metadata"].(object)["name"].(string)
	if s.objects[resource][name] == nil {
		kind = "ADDED"
	}
	s.objects[resource][name] = o
	s.announce(kind, resource, o)
}

func (s *server) remove(resource, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[resource][name]
	delete(s.objects[resource], name)
	s.announce("DELETED", resource, o)
}

func (s *server) refuseWith(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = status
}

func (s *server) announce(kind, resource string, o object) {
	s.version++
	meta := maps.Clone(o["metadata"].(object))
	meta["resourceVersion"] = strconv.Itoa(s.version)
	o = maps.Clone(o)
	o["metadata"] = meta
	s.news = append(s.news, news{s.version, resource, kind, o})
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) serve(w http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	resource, ok := strings.CutPrefix(request.URL.Path, "/apis/nodegadget.dev/v1alpha1/")
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refuse != 0:
		answer(w, s.refuse)
	case !ok || s.objects[resource] == nil:
		answer(w, http.StatusNotFound)
	case query.Get("watch") != "true":
		s.lists++
		items := slices.Collect(maps.Values(s.objects[resource]))
		_ = json.NewEncoder(w).Encode(object{
			"kind": "List", "apiVersion": "nodegadget.dev/v1alpha1", "metadata": object{"resourceVersion": strconv.Itoa(s.version)}, "items": items,
		})
	case query.Get("sendInitialEvents") == "true" && !s.streams:
		answer(w, http.StatusUnprocessableEntity)
	default:
		s.watch(w, request, resource)
	}
}

func answer(w http.ResponseWriter, code int) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": strings.ReplaceAll(http.StatusText(code), " ", ""), "message": fmt.Sprint("answer ", code)})
}

// watch sends what is new since the version that is asked for; or first all there is.
func (s *server) watch(w http.ResponseWriter, request *http.Request, resource string) {
	send := func(kind string, o object) {
		// An error is a client that has gone.
		_ = json.NewEncoder(w).Encode(object{"type": kind, "object": o})
		w.(http.Flusher).Flush()
	}
	since, _ := strconv.Atoi(request.URL.Query().Get("resourceVersion"))
	if request.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range s.objects[resource] {
			send("ADDED", o)
		}
		since = s.version
		send("BOOKMARK", object{"kind": "TraceSession", "apiVersion": "nodegadget.dev/v1alpha1", "metadata": object{
			"resourceVersion": strconv.Itoa(since), "annotations": object{"k8s.io/initial-events-end": "true"},
		}})
	}
	w.(http.Flusher).Flush()
	for request.Context().Err() == nil {
		for _, n := range s.news {
			if n.version > since && n.resource == resource {
				send(n.kind, n.object)
				since = n.version
			}
		}
		changed, stopped := s.changed, s.stopped
		s.mu.Unlock()
		select {
		case <-changed:
		case <-stopped:
		case <-request.Context().Done():
		}
		s.mu.Lock()
		select {
		case <-stopped:
			return
		default:
		}
	}
}
