// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

// Limits of a selector; agents refuse what is beyond.
const (
	maxNames  = 1024
	maxLabels = 4096
)

// Session is a trace session of either kind.
type Session struct {
	UID types.UID
	// Namespace is empty for a ClusterTraceSession.
	Namespace, Name string
	Generation      int64
	Created         time.Time
	// Deleting says that it is to end, and waits for that.
	Deleting bool
	// Interactive says that it belongs to a client, and ends with it.
	Interactive bool
	Spec        v1alpha1.SessionSpec
	// Selector says whose records it gets; it is never nil.
	Selector *wire.Selector
	// Nodes are those that it is for; empty for all.
	Nodes []string
}

// Of reads a TraceSession. An error says what in its selector can't be understood.
func Of(object *v1alpha1.TraceSession) (Session, error) {
	s := common(&object.ObjectMeta, object.Spec.SessionSpec)
	if s.Namespace == "" {
		return Session{}, errors.New("a TraceSession without a namespace")
	}
	var err error
	if s.Selector, err = selectorOf(object.Spec.Selector); err != nil {
		return Session{}, err
	}
	s.confine()
	return s, nil
}

// OfCluster reads a ClusterTraceSession. An error says what in its selector can't be
// understood.
func OfCluster(object *v1alpha1.ClusterTraceSession) (Session, error) {
	s := common(&object.ObjectMeta, object.Spec.SessionSpec)
	s.Namespace = ""
	wanted := object.Spec.Selector
	var err error
	if s.Selector, err = selectorOf(wanted.PodSelection); err != nil {
		return Session{}, err
	}
	if err := checkNames("namespaces", wanted.Namespaces); err != nil {
		return Session{}, err
	}
	if err := checkNames("nodeNames", wanted.NodeNames); err != nil {
		return Session{}, err
	}
	s.Selector.Namespaces, s.Selector.Host = slices.Clone(wanted.Namespaces), wanted.Host
	s.Nodes = slices.Clone(wanted.NodeNames)
	return s, nil
}

func common(meta *metav1.ObjectMeta, spec v1alpha1.SessionSpec) Session {
	return Session{
		UID: meta.UID, Namespace: meta.Namespace, Name: meta.Name, Generation: meta.Generation,
		Created: meta.CreationTimestamp.Time, Deleting: meta.DeletionTimestamp != nil,
		Interactive: meta.Labels[v1alpha1.LabelInteractive] == "true",
		Spec:        *spec.DeepCopy(),
	}
}

// confine keeps a TraceSession to the pods of its own namespace.
func (s *Session) confine() {
	s.Selector.Namespaces, s.Selector.Host = []string{s.Namespace}, false
	s.Nodes = nil
}

func selectorOf(wanted v1alpha1.PodSelection) (*wire.Selector, error) {
	if err := checkNames("podNames", wanted.PodNames); err != nil {
		return nil, err
	}
	if err := checkNames("containerNames", wanted.ContainerNames); err != nil {
		return nil, err
	}
	selector := &wire.Selector{Pods: slices.Clone(wanted.PodNames), Containers: slices.Clone(wanted.ContainerNames)}
	if wanted.PodSelector == nil {
		return selector, nil
	}
	parsed, err := metav1.LabelSelectorAsSelector(wanted.PodSelector)
	if err != nil {
		return nil, fmt.Errorf("spec.selector.podSelector: %w", err)
	}
	selector.Labels = parsed.String()
	if len(selector.Labels) > maxLabels {
		return nil, fmt.Errorf("spec.selector.podSelector: %d bytes as text, at most %d are taken", len(selector.Labels), maxLabels)
	}
	return selector, nil
}

// checkNames refuses what might be taken for no restriction.
func checkNames(field string, names []string) error {
	if len(names) > maxNames {
		return fmt.Errorf("spec.selector.%s: %d names, at most %d are taken", field, len(names), maxNames)
	}
	if slices.Contains(names, "") {
		return fmt.Errorf("spec.selector.%s: an empty name", field)
	}
	return nil
}

// Start is what an agent runs for the session.
func (s *Session) Start() *wire.Start {
	selector := &wire.Selector{
		Namespaces: slices.Clone(s.Selector.GetNamespaces()), Pods: slices.Clone(s.Selector.GetPods()),
		Containers: slices.Clone(s.Selector.GetContainers()), Labels: s.Selector.GetLabels(), Host: s.Selector.GetHost(),
	}
	// Once more, for a Session that was changed since, or put together by hand: without
	// a restriction an agent would send what others' pods do.
	if s.Namespace != "" {
		selector.Namespaces, selector.Host = []string{s.Namespace}, false
	}
	start := &wire.Start{
		Protocol: wire.Current(), Gadget: s.Spec.Gadget.Name, Params: maps.Clone(s.Spec.Params), Filter: s.Spec.Filter,
		Selector: selector,
	}
	if size := s.Spec.BufferSize; size != nil {
		start.BufferSize = uint64(max(size.Value(), 0))
	}
	if interval := s.Spec.Interval; interval != nil {
		start.Interval = int64(interval.Duration)
	}
	return start
}

// On says whether the session is for the node.
func (s *Session) On(node string) bool { return len(s.Nodes) == 0 || slices.Contains(s.Nodes, node) }

// Expiry is when the session is over; ok is false if only its deletion ends it.
func (s *Session) Expiry() (when time.Time, ok bool) {
	if s.Spec.TTL == nil {
		return time.Time{}, false
	}
	return s.Created.Add(max(s.Spec.TTL.Duration, 0)), true
}

// Expired says whether the session's time is over.
func (s *Session) Expired(now time.Time) bool {
	when, ok := s.Expiry()
	return ok && !now.Before(when)
}
