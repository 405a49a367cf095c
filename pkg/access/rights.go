// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/authentication/user"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

const (
	// Group is the API group whose resources callers need rights for.
	Group = "nodegadget.dev"

	sessions        = "tracesessions"
	clusterSessions = "clustertracesessions"
	stream          = "stream"

	// maxNames bounds each list of a selector.
	maxNames = 256
	// parallel is how many questions one call asks at a time.
	parallel = 8
)

// Trace says whether the caller may see what the selector selects; a missing one
// selects everything. A selector that makes no sense is an error as well: what it
// would select must not depend on who reads it.
func (g *Gate) Trace(ctx context.Context, caller Caller, selector *wire.Selector) error {
	if err := checkSelector(selector); err != nil {
		return err
	}
	namespaces := selector.GetNamespaces()
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	if selector == nil || selector.GetHost() {
		group.Go(func() error { return g.Cluster(ctx, caller, "trace processes outside of pods") })
	}
	for _, namespace := range namespaces {
		group.Go(func() error { return g.traceNamespace(ctx, caller, namespace) })
	}
	return group.Wait()
}

func (g *Gate) traceNamespace(ctx context.Context, caller Caller, namespace string) error {
	do := fmt.Sprintf("trace pods in namespace %q", namespace)
	if namespace == metav1.NamespaceAll {
		do = "trace pods in all namespaces"
	}
	return g.need(ctx, caller, do, authorizationv1.ResourceAttributes{
		Verb: "create", Group: Group, Resource: sessions, Subresource: stream, Namespace: namespace,
	})
}

// Session says whether the caller may read what the trace sessions of a namespace have
// recorded; "" stands for ClusterTraceSessions, which belong to none.
func (g *Gate) Session(ctx context.Context, caller Caller, namespace string) error {
	right := authorizationv1.ResourceAttributes{Verb: "get", Group: Group, Resource: clusterSessions, Subresource: stream}
	if namespace == "" {
		return g.need(ctx, caller, "read trace sessions of the cluster", right)
	}
	if err := checkNamespace(namespace); err != nil {
		return err
	}
	right.Resource, right.Namespace = sessions, namespace
	return g.need(ctx, caller, fmt.Sprintf("read trace sessions of namespace %q", namespace), right)
}

// Cluster says whether the caller may do something that concerns nodes, not pods;
// what completes the sentence "may not …".
func (g *Gate) Cluster(ctx context.Context, caller Caller, do string) error {
	return g.need(ctx, caller, do, authorizationv1.ResourceAttributes{
		Verb: "create", Group: Group, Resource: clusterSessions, Subresource: stream,
	})
}

func (g *Gate) need(ctx context.Context, caller Caller, do string, right authorizationv1.ResourceAttributes) error {
	allowed, err := g.allowed(ctx, caller.user, right)
	if err != nil || allowed {
		return err
	}
	binding := "by a ClusterRole and a ClusterRoleBinding"
	if right.Namespace != "" {
		binding = fmt.Sprintf("by a Role and a RoleBinding in namespace %q", right.Namespace)
	}
	return status.Errorf(codes.PermissionDenied, "user %q may not %s: the right is the verb %s on %s, given %s",
		caller.user.GetName(), do, right.Verb, resourceName(right), binding)
}

// allowed asks the API server about one right.
func (g *Gate) allowed(ctx context.Context, who user.Info, right authorizationv1.ResourceAttributes) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range who.GetExtra() {
		extra[key] = values
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		ResourceAttributes: &right, User: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: extra,
	}}
	review, err := g.opts.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, status.Errorf(codes.Unavailable, "the API server doesn't say what user %q may: %v", who.GetName(), err)
	}
	return review.Status.Allowed && !review.Status.Denied, nil
}

// resourceName writes a resource as kubectl auth can-i takes it.
func resourceName(right authorizationv1.ResourceAttributes) string {
	name := right.Resource
	if right.Group != "" {
		name += "." + right.Group
	}
	if right.Subresource != "" {
		name += "/" + right.Subresource
	}
	return name
}

func checkSelector(selector *wire.Selector) error {
	for _, names := range [][]string{selector.GetNamespaces(), selector.GetPods(), selector.GetContainers()} {
		if len(names) > maxNames {
			return status.Errorf(codes.InvalidArgument, "%d names to select by, at most %d are taken", len(names), maxNames)
		}
	}
	// An empty name above all: for the API server that is every namespace.
	for _, name := range selector.GetNamespaces() {
		if err := checkNamespace(name); err != nil {
			return err
		}
	}
	if _, err := labels.Parse(selector.GetLabels()); err != nil {
		return status.Errorf(codes.InvalidArgument, "the label selector makes no sense: %v", err)
	}
	return nil
}

func checkNamespace(name string) error {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return status.Errorf(codes.InvalidArgument, "%.100q is no name of a namespace: %s", name, strings.Join(problems, "; "))
	}
	return nil
}

// Reachable says whether the API server answers at all.
func (g *Gate) Reachable(ctx context.Context) error {
	// Everybody may ask it.
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Group: Group, Resource: sessions},
	}}
	_, err := g.opts.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	return err
}
