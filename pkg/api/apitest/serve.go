// SPDX-License-Identifier: Apache-2.0

package apitest

import (
	"errors"
	"net/http"
	"path"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// apiVersion is that of the resource's objects.
func (r *resource) apiVersion() string {
	version := path.Dir(r.path)
	return strings.TrimPrefix(strings.TrimPrefix(version, "/apis/"), "/api/")
}

func (s *Server) serve(w http.ResponseWriter, request *http.Request) {
	a := s.answer(w, request)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resources[request.URL.Path]
	query := request.URL.Query()
	watches, whole := query.Get("watch") == "true", query.Get("sendInitialEvents") == "true"
	var wrong error
	if s.opts.Check != nil {
		wrong = s.opts.Check(request)
	}
	switch {
	case s.forbidden != "":
		a.refuse(apierrors.NewForbidden(schema.GroupResource{Resource: path.Base(request.URL.Path)}, "", errors.New(s.forbidden)))
	case request.Method != http.MethodGet || r == nil || r.undefined:
		a.refuse(apierrors.NewNotFound(schema.GroupResource{}, request.URL.Path))
	case wrong != nil:
		a.refuse(apierrors.NewBadRequest(wrong.Error()))
	case watches && whole && !s.opts.Streams:
		a.refuse(apierrors.NewInvalid(schema.GroupKind{}, "", nil))
	case watches:
		s.watch(a, request, r, whole)
	default:
		a.write(http.StatusOK, s.list(a, r))
	}
}

// list is all there is of a resource. The caller holds mu.
func (s *Server) list(a *answer, r *resource) runtime.Object {
	version := strconv.Itoa(s.version)
	if a.metadata {
		list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: version}}
		list.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList"))
		for _, object := range r.objects {
			list.Items = append(list.Items, *metadataOf(object))
		}
		return list
	}
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion(r.apiVersion())
	list.SetKind(r.kind + "List")
	list.SetResourceVersion(version)
	for _, object := range r.objects {
		list.Items = append(list.Items, *object)
	}
	return list
}

// watch sends what is new since the version that is asked for; or first all there is. The
// caller holds mu, which is free while there is nothing to send.
func (s *Server) watch(a *answer, request *http.Request, r *resource, whole bool) {
	since, _ := strconv.Atoi(request.URL.Query().Get("resourceVersion"))
	send := a.stream()
	if whole {
		for _, object := range r.objects {
			send(watch.Added, a.form(object))
		}
		since = s.version
		send(watch.Bookmark, a.form(s.end(r)))
	}
	for request.Context().Err() == nil {
		if since < s.forgotten {
			send(watch.Error, statusOf(apierrors.NewResourceExpired("too old")))
			return
		}
		for _, n := range s.news {
			if n.version > since && n.resource == r {
				send(n.kind, a.form(n.object))
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

// end is the bookmark after which all there was has been sent.
func (s *Server) end(r *resource) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(r.apiVersion())
	u.SetKind(r.kind)
	u.SetResourceVersion(strconv.Itoa(s.version))
	u.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return u
}
