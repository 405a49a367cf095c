// SPDX-License-Identifier: Apache-2.0

package clustertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// group is the path below which custom resources are.
const group = "/apis/nodegadget.dev/v1alpha1/"

// kinds are the custom resources that the API server knows.
var kinds = map[string]string{"tracesessions": "TraceSession", "clustertracesessions": "ClusterTraceSession"}

// objects are custom resources by "resource/namespace/name".
type objects map[string]map[string]any

// Put makes a custom resource of a document, or replaces it.
func (s *Server) Put(resource, document string) {
	object := map[string]any{}
	if err := json.Unmarshal([]byte(document), &object); err != nil {
		panic(fmt.Sprintf("a test's document: %v", err))
	}
	meta := metadata(object)
	namespace, _ := meta["namespace"].(string)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(resource, namespace, object)
}

// Object is a custom resource, nil if there is none of the name.
func (s *Server) Object(resource, namespace, name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[resource+"/"+namespace+"/"+name]
}

// Remove does what is left to do of a deletion that a finalizer has put off.
func (s *Server) Remove(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, resource+"/"+namespace+"/"+name)
}

func metadata(object map[string]any) map[string]any {
	meta, ok := object["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		object["metadata"] = meta
	}
	return meta
}

func (s *Server) put(resource, namespace string, object map[string]any) {
	meta := metadata(object)
	object["apiVersion"], object["kind"] = "nodegadget.dev/v1alpha1", kinds[resource]
	s.serial++
	if meta["uid"] == nil {
		meta["uid"] = fmt.Sprintf("uid-%d", s.serial)
	}
	meta["resourceVersion"] = fmt.Sprint(s.serial)
	s.objects[resource+"/"+namespace+"/"+meta["name"].(string)] = object
}

// serveObjects is the API server for custom resources, as far as the plugin needs it.
func (s *Server) serveObjects(w http.ResponseWriter, request *http.Request) {
	parts := strings.Split(strings.TrimPrefix(request.URL.Path, group), "/")
	namespace := ""
	if parts[0] == "namespaces" && len(parts) > 2 {
		namespace, parts = parts[1], parts[2:]
	}
	resource, name := parts[0], ""
	if len(parts) > 1 {
		name = parts[1]
	}
	if s.NoDefinitions || kinds[resource] == "" {
		// What the API server says of a kind that it doesn't know.
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource", resource, "")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case request.Method == http.MethodGet && name == "":
		answer(w, http.StatusOK, s.listObjects(resource, namespace))
	case request.Method == http.MethodPost:
		s.create(w, request, resource, namespace)
	default:
		s.serveObject(w, request, resource, namespace, name)
	}
}

func (s *Server) listObjects(resource, namespace string) map[string]any {
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		of, at, _ := strings.Cut(key, "/")
		if of == resource && (namespace == "" || strings.HasPrefix(at, namespace+"/")) {
			items = append(items, s.objects[key])
		}
	}
	return map[string]any{
		"apiVersion": "nodegadget.dev/v1alpha1", "kind": kinds[resource] + "List",
		"metadata": map[string]any{"resourceVersion": fmt.Sprint(s.serial)}, "items": items,
	}
}

func (s *Server) create(w http.ResponseWriter, request *http.Request, resource, namespace string) {
	object := map[string]any{}
	if err := json.NewDecoder(request.Body).Decode(&object); err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), resource, "")
		return
	}
	meta := metadata(object)
	if prefix, ok := meta["generateName"].(string); ok && meta["name"] == nil {
		meta["name"] = prefix + "x7k2p"
	}
	name, _ := meta["name"].(string)
	if s.objects[resource+"/"+namespace+"/"+name] != nil {
		fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, fmt.Sprintf("%s.nodegadget.dev %q already exists", resource, name), resource, name)
		return
	}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	meta["creationTimestamp"] = "2026-11-05T10:00:00Z"
	if request.URL.Query().Get("dryRun") == "" {
		s.put(resource, namespace, object)
	}
	answer(w, http.StatusCreated, object)
}

func (s *Server) serveObject(w http.ResponseWriter, request *http.Request, resource, namespace, name string) {
	key := resource + "/" + namespace + "/" + name
	object := s.objects[key]
	if object == nil {
		fail(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s.nodegadget.dev %q not found", resource, name), resource, name)
		return
	}
	switch request.Method {
	case http.MethodPatch:
		if err := patch(object, request); err != nil {
			fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), resource, name)
			return
		}
		s.put(resource, namespace, object)
	case http.MethodDelete:
		if metadata(object)["finalizers"] == nil {
			delete(s.objects, key)
		}
		metadata(object)["deletionTimestamp"] = "2026-11-05T11:00:00Z"
	}
	answer(w, http.StatusOK, object)
}

// patch changes the object by a merge patch.
func patch(object map[string]any, request *http.Request) error {
	if is := request.Header.Get("Content-Type"); is != string(types.MergePatchType) {
		return fmt.Errorf("a patch of type %q", is)
	}
	change := map[string]any{}
	if err := json.NewDecoder(request.Body).Decode(&change); err != nil {
		return err
	}
	merge(object, change)
	return nil
}

func merge(object, change map[string]any) {
	for field, value := range change {
		inner, ok := value.(map[string]any)
		old, was := object[field].(map[string]any)
		switch {
		case value == nil:
			delete(object, field)
		case ok && was:
			merge(old, inner)
		default:
			object[field] = value
		}
	}
}

func fail(w http.ResponseWriter, code int32, reason metav1.StatusReason, message, resource, name string) {
	answer(w, int(code), metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
		Details: &metav1.StatusDetails{Group: "nodegadget.dev", Kind: resource, Name: name},
	})
}
