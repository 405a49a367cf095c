// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/print"
)

// listPage is how many sessions are asked for at a time.
const listPage = 500

// sessionKind is one of the two kinds of trace sessions.
type sessionKind struct {
	// name is the kind's, resource what it is called in paths, singular in messages.
	name, resource, singular string
	cluster                  bool
}

var (
	namespacedSessions = sessionKind{"TraceSession", "tracesessions", "tracesession", false}
	clusterSessions    = sessionKind{"ClusterTraceSession", "clustertracesessions", "clustertracesession", true}
)

// sessionClient reads and writes the trace sessions of one kind.
type sessionClient struct {
	api  dynamic.Interface
	kind sessionKind
	// namespace is theirs; empty for all.
	namespace string
}

// traceSession is a session of either kind, as the API server has it. A TraceSession's
// selector is part of a ClusterTraceSession's.
type traceSession struct {
	raw    *unstructured.Unstructured
	meta   metav1.ObjectMeta
	spec   v1alpha1.ClusterTraceSessionSpec
	status v1alpha1.SessionStatus
	// broken is why a part of it can't be read: the API server's schema lets values
	// through that Go's types don't take. The others are shown all the same.
	broken error
}

func readSession(raw *unstructured.Unstructured) traceSession {
	s := traceSession{raw: raw}
	for _, part := range []struct {
		name string
		to   any
	}{{"metadata", &s.meta}, {"spec", &s.spec}, {"status", &s.status}} {
		content, ok := raw.Object[part.name].(map[string]any)
		if !ok {
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, part.to); err != nil && s.broken == nil {
			s.broken = fmt.Errorf("its %s can't be read: %w", part.name, err)
		}
	}
	return s
}

// phase is the session's state in a word.
func (s *traceSession) phase() string {
	if s.meta.DeletionTimestamp != nil {
		return "Deleting"
	}
	return cmp.Or(string(s.status.Phase), string(v1alpha1.SessionPending))
}

// object is the session's name as kubectl writes it.
func (c *sessionClient) object(name string) string {
	return print.Escape(c.kind.singular + ".nodegadget.dev/" + name)
}

func (c *sessionClient) resource() dynamic.ResourceInterface {
	all := c.api.Resource(v1alpha1.GroupVersion.WithResource(c.kind.resource))
	if c.kind.cluster || c.namespace == "" {
		return all
	}
	return all.Namespace(c.namespace)
}

func (c *sessionClient) list(ctx context.Context) ([]traceSession, error) {
	var sessions []traceSession
	options := metav1.ListOptions{Limit: listPage}
	for {
		list, err := c.resource().List(ctx, options)
		if err != nil {
			return nil, c.explain("list", "", err)
		}
		for i := range list.Items {
			sessions = append(sessions, readSession(&list.Items[i]))
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return sessions, nil
		}
	}
}

func (c *sessionClient) get(ctx context.Context, name string) (*traceSession, error) {
	raw, err := c.resource().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, c.explain("get", name, err)
	}
	s := readSession(raw)
	return &s, nil
}

func (c *sessionClient) create(ctx context.Context, raw *unstructured.Unstructured, options metav1.CreateOptions) (*unstructured.Unstructured, error) {
	created, err := c.resource().Create(ctx, raw, options)
	if err != nil {
		return nil, c.explain("create", raw.GetName(), err)
	}
	return created, nil
}

func (c *sessionClient) suspend(ctx context.Context, name string, to bool) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"suspend": to}})
	if err != nil {
		return err
	}
	_, err = c.resource().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return c.explain("patch", name, err)
}

func (c *sessionClient) delete(ctx context.Context, name string) error {
	return c.explain("delete", name, c.resource().Delete(ctx, name, metav1.DeleteOptions{}))
}

// where is where the sessions are, for messages.
func (c *sessionClient) where() string {
	switch {
	case c.kind.cluster:
		return "in this cluster"
	case c.namespace == "":
		return "in all namespaces"
	}
	return "in namespace " + c.namespace
}

// explain says what to do about an error of the API server's. Without one it is none.
func (c *sessionClient) explain(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err) && strings.HasPrefix(err.Error(), "the server could not find the requested resource"):
		return fmt.Errorf("this cluster doesn't know trace sessions: install nodegadget, or upgrade it, with `kubectl gadget deploy` (%w)", err)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("there is no %s %q %s: see kubectl gadget session list", c.kind.singular, name, c.where())
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("there is a %s %q %s already: choose another name, or delete that one", c.kind.singular, name, c.where())
	case apierrors.IsForbidden(err) && isDenial(err):
		return fmt.Errorf("you may not %s %s %s: ask for a binding to the ClusterRole %s (%w)", verb, c.kind.resource, c.where(), c.role(verb), err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
		return usagef("%v", err)
	}
	return fmt.Errorf("asking the API server: %w", err)
}

// isDenial tells a right that is missing from an object that a policy refuses.
func isDenial(err error) bool { return strings.Contains(err.Error(), " cannot ") }

// role is the one that gives the right to do something with sessions.
func (c *sessionClient) role(verb string) string {
	switch {
	case verb == "get" || verb == "list":
		return "nodegadget-viewer"
	case c.kind.cluster:
		return "nodegadget-node-tracer"
	}
	return "nodegadget-tracer"
}
