// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The keys of metadata are those of the API server's headers, in gRPC's lower case.
const (
	impersonateUser  = "impersonate-user"
	impersonateGroup = "impersonate-group"
	impersonateUID   = "impersonate-uid"
	impersonateExtra = "impersonate-extra-"

	// maxImpersonated bounds what may be impersonated at once: each is a question
	// to the API server.
	maxImpersonated = 64
)

// impersonate returns whom the caller wants to be, if they may.
func (g *Gate) impersonate(ctx context.Context, caller user.Info) (Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	target, rights, err := impersonated(md)
	if err != nil {
		return Caller{}, err
	}
	if target == nil {
		return Caller{user: caller}, nil
	}
	for _, r := range rights {
		allowed, err := g.allowed(ctx, caller, r)
		if err != nil {
			return Caller{}, err
		}
		if !allowed {
			return Caller{}, status.Errorf(codes.PermissionDenied, "user %q may not impersonate %s %q: the right is the verb impersonate on %s",
				caller.GetName(), r.Resource, r.Name, resourceName(r))
		}
	}
	if target.GetName() == user.Anonymous || slices.Contains(target.GetGroups(), user.AllUnauthenticated) {
		return Caller{}, status.Error(codes.Unauthenticated, "anonymous callers may do nothing here, nor who impersonates them")
	}
	return Caller{user: target, actor: caller.GetName()}, nil
}

// impersonated reads whom metadata names, and the right that each part of it needs.
// The user is nil if there is nothing to impersonate.
func impersonated(md metadata.MD) (user.Info, []authorizationv1.ResourceAttributes, error) {
	target := &user.DefaultInfo{Groups: slices.Clone(md[impersonateGroup]), Extra: map[string][]string{}}
	var rights []authorizationv1.ResourceAttributes
	need := func(group, resource, subresource, namespace, name string) {
		rights = append(rights, authorizationv1.ResourceAttributes{
			Verb: "impersonate", Group: group, Resource: resource, Subresource: subresource, Namespace: namespace, Name: name,
		})
	}
	for _, group := range target.Groups {
		need("", "groups", "", "", group)
	}
	for key, values := range md {
		extra, ok := strings.CutPrefix(key, impersonateExtra)
		if !ok {
			continue
		}
		target.Extra[extra] = values
		for _, value := range values {
			need(authenticationv1.GroupName, "userextras", extra, "", value)
		}
	}
	if uids := md[impersonateUID]; len(uids) > 0 {
		target.UID = uids[0]
		need(authenticationv1.GroupName, "uids", "", "", target.UID)
	}
	users := md[impersonateUser]
	switch {
	case len(users) == 0 && len(rights) == 0:
		return nil, nil, nil
	case len(users) != 1 || users[0] == "" || len(md[impersonateUID]) > 1:
		return nil, nil, status.Error(codes.InvalidArgument, "groups, a uid and extras can be impersonated only together with one user")
	case len(rights) >= maxImpersonated:
		return nil, nil, status.Errorf(codes.InvalidArgument, "%d things to impersonate with the user, fewer than %d are taken", len(rights), maxImpersonated)
	}
	target.Name = users[0]
	if namespace, name, err := serviceaccount.SplitUsername(target.Name); err == nil {
		need("", "serviceaccounts", "", namespace, name)
		if len(target.Groups) == 0 {
			target.Groups = serviceaccount.MakeGroupNames(namespace)
		}
	} else {
		need("", "users", "", "", target.Name)
	}
	return withAuthenticated(target), rights, nil
}
