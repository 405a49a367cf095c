// SPDX-License-Identifier: Apache-2.0

package apitest

import (
	"bytes"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
)

// answer is what a request gets, in the form that it has asked for.
type answer struct {
	w    http.ResponseWriter
	info runtime.SerializerInfo
	// metadata says that nothing else of objects is wanted.
	metadata bool
}

func (s *Server) answer(w http.ResponseWriter, request *http.Request) *answer {
	only := s.info.MediaType + ";as=PartialObjectMetadata"
	return &answer{w: w, info: s.info, metadata: strings.Contains(request.Header.Get("Accept"), only)}
}

// form is the object, or what is wanted of it.
func (a *answer) form(object *unstructured.Unstructured) runtime.Object {
	if a.metadata {
		return metadataOf(object)
	}
	return object
}

func metadataOf(object *unstructured.Unstructured) *metav1.PartialObjectMetadata {
	metadata := &metav1.PartialObjectMetadata{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, metadata); err != nil {
		panic(err) // Put has had it from a JSON object.
	}
	metadata.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata"))
	return metadata
}

func (a *answer) refuse(err *apierrors.StatusError) { a.write(int(err.ErrStatus.Code), statusOf(err)) }

func statusOf(err *apierrors.StatusError) *metav1.Status {
	status := err.ErrStatus
	status.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	return &status
}

func (a *answer) write(code int, object runtime.Object) {
	a.w.Header().Set("Content-Type", a.info.MediaType)
	a.w.WriteHeader(code)
	// An error is a client that has gone.
	_, _ = a.w.Write(a.encode(object))
}

func (a *answer) encode(object runtime.Object) []byte {
	var content bytes.Buffer
	if err := a.info.Serializer.Encode(object, &content); err != nil {
		panic(err) // net/http logs it, and hangs up.
	}
	return content.Bytes()
}

// stream begins to send events one by one.
func (a *answer) stream() func(watch.EventType, runtime.Object) {
	a.w.Header().Set("Content-Type", a.info.MediaType+";stream=watch")
	a.w.WriteHeader(http.StatusOK)
	a.w.(http.Flusher).Flush()
	stream := a.info.StreamSerializer
	encoder := streaming.NewEncoder(stream.Framer.NewFrameWriter(a.w), stream.Serializer)
	return func(kind watch.EventType, object runtime.Object) {
		// An error is a client that has gone.
		_ = encoder.Encode(&metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: a.encode(object)}})
		a.w.(http.Flusher).Flush()
	}
}
