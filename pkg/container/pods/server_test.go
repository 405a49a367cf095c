// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

const (
	mediaJSON     = "application/json"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

// server speaks the API server's protocol for one node's pods, from its fields.
type server struct {
	tb testing.TB
	// media is what it answers in; both are asked for.
	media string
	// streams says that watches may begin with what there is.
	streams bool

	mu      sync.Mutex
	version int
	pods    map[string]*metav1.PartialObjectMetadata
	// news are all since forgotten; changed is closed when there are more.
	news      []news
	forgotten int
	changed   chan struct{}
	refuse    *apierrors.StatusError
	lists     int

	address string
	http    *httptest.Server
	stopped chan struct{}
}

type news struct {
	version int
	kind    watch.EventType
	pod     *metav1.PartialObjectMetadata
}

func newServer(tb testing.TB, media string, streams bool) *server {
	tb.Helper()
	s := &server{tb: tb, media: media, streams: streams, version: 100, forgotten: 100, pods: map[string]*metav1.PartialObjectMetadata{}, changed: make(chan struct{})}
	s.start()
	tb.Cleanup(s.stop)
	return s
}

func (s *server) config() *rest.Config { return &rest.Config{Host: "http://" + s.address} }

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

// put makes a pod, or changes it.
func (s *server) put(pod *metav1.PartialObjectMetadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := watch.Modified
	if s.pods[pod.Name] == nil {
		kind = watch.Added
	}
	s.pods[pod.Name] = pod
	s.announce(kind, pod)
}

func (s *server) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := s.pods[name]
	delete(s.pods, name)
	s.announce(watch.Deleted, pod)
}

// forget makes it answer that it doesn't know any more what was new.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.news, s.forgotten = nil, s.version
}

// refuseWith makes it refuse everything from now on; nil ends that.
func (s *server) refuseWith(err *apierrors.StatusError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *server) announce(kind watch.EventType, pod *metav1.PartialObjectMetadata) {
	s.version++
	pod = pod.DeepCopy()
	pod.ResourceVersion = strconv.Itoa(s.version)
	s.news = append(s.news, news{s.version, kind, pod})
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) serve(w http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	accept := request.Header.Get("Accept")
	switch {
	case request.Method != http.MethodGet || request.URL.Path != "/api/v1/pods":
		s.write(w, http.StatusNotFound, &apierrors.NewNotFound(schema.GroupResource{}, request.URL.Path).ErrStatus)
	case query.Get("fieldSelector") != "spec.nodeName=node1" || !strings.Contains(accept, s.media+";as=PartialObjectMetadata"):
		s.write(w, http.StatusBadRequest, &apierrors.NewBadRequest(fmt.Sprint("asked for ", query, " as ", accept)).ErrStatus)
	case s.refused() != nil:
		refusal := s.refused()
		s.write(w, int(refusal.Code), refusal)
	case query.Get("watch") == "true" && query.Get("sendInitialEvents") == "true" && !s.streams:
		s.write(w, http.StatusUnprocessableEntity, &apierrors.NewInvalid(schema.GroupKind{}, "", nil).ErrStatus)
	case query.Get("watch") == "true":
		s.watch(w, request)
	default:
		s.write(w, http.StatusOK, s.list())
	}
}

func (s *server) refused() *metav1.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse == nil {
		return nil
	}
	return &s.refuse.ErrStatus
}

func (s *server) list() *metav1.PartialObjectMetadataList {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	for _, pod := range s.pods {
		list.Items = append(list.Items, *pod)
	}
	return list
}

// watch sends what is new since the version that is asked for; or first all there is.
func (s *server) watch(w http.ResponseWriter, request *http.Request) {
	since, _ := strconv.Atoi(request.URL.Query().Get("resourceVersion"))
	send := s.stream(w)
	s.mu.Lock()
	if request.URL.Query().Get("sendInitialEvents") == "true" {
		for _, pod := range s.pods {
			send(watch.Added, pod)
		}
		since = s.version
		end := &metav1.PartialObjectMetadata{}
		end.ResourceVersion = strconv.Itoa(since)
		end.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
		send(watch.Bookmark, end)
	}
	defer s.mu.Unlock()
	for {
		if since < s.forgotten {
			send(watch.Error, &apierrors.NewResourceExpired("too old").ErrStatus)
			return
		}
		for _, n := range s.news {
			if n.version > since {
				send(n.kind, n.pod)
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
		if request.Context().Err() != nil {
			return
		}
		select {
		case <-stopped:
			return
		default:
		}
	}
}

func (s *server) serializer() runtime.SerializerInfo {
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), s.media)
	require.True(s.tb, ok)
	return info
}

func (s *server) encode(object runtime.Object) []byte {
	var content bytes.Buffer
	require.NoError(s.tb, scheme.Codecs.EncoderForVersion(s.serializer().Serializer, metav1.SchemeGroupVersion).Encode(object, &content))
	return content.Bytes()
}

func (s *server) write(w http.ResponseWriter, code int, object runtime.Object) {
	w.Header().Set("Content-Type", s.media)
	w.WriteHeader(code)
	_, _ = w.Write(s.encode(object))
}

// stream sends events one by one.
func (s *server) stream(w http.ResponseWriter) func(watch.EventType, runtime.Object) {
	w.Header().Set("Content-Type", s.media+";stream=watch")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	info := s.serializer().StreamSerializer
	encoder := streaming.NewEncoder(info.Framer.NewFrameWriter(w), scheme.Codecs.EncoderForVersion(info.Serializer, metav1.SchemeGroupVersion))
	return func(kind watch.EventType, object runtime.Object) {
		// An error is a client that has gone.
		_ = encoder.Encode(&metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: s.encode(object)}})
		w.(http.Flusher).Flush()
	}
}
