// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/session"
)

// judge says which specs are accepted.
type judge struct {
	catalog *gadget.Catalog

	mu    sync.Mutex
	specs map[string]*gadget.Spec
}

// read reads a session and says whether its spec is accepted. Of one that can't be read
// it knows what its metadata say.
func (j *judge) read(object *unstructured.Unstructured) (session.Session, verdict) {
	read, err := session.Decode(object)
	if err != nil {
		return session.Session{
			UID: object.GetUID(), Namespace: object.GetNamespace(), Name: object.GetName(), Generation: object.GetGeneration(),
			Created: object.GetCreationTimestamp().Time, Deleting: object.GetDeletionTimestamp() != nil,
		}, verdict{"InvalidSpec", err.Error()}
	}
	spec, err := j.spec(read.Spec.Gadget.Name)
	if err != nil {
		return read, verdict{"UnknownGadget", err.Error()}
	}
	problems := session.Check(&read, spec)
	if len(problems) == 0 {
		return read, verdict{}
	}
	texts := make([]string, 0, len(problems))
	for _, p := range problems {
		texts = append(texts, p.String())
	}
	return read, verdict{"InvalidSpec", strings.Join(texts, "; ")}
}

// spec reads a gadget once.
func (j *judge) spec(name string) (*gadget.Spec, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if spec := j.specs[name]; spec != nil {
		return spec, nil
	}
	object, err := j.catalog.Object(name)
	if err != nil {
		return nil, err
	}
	j.specs[name] = &object.Spec
	return &object.Spec, nil
}
