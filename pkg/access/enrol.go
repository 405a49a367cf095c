// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// Audience is for whom the tokens are that agents enrol with: neither can one be
	// used against the API server, nor one for the API server here.
	Audience = "nodegadget"
	// AgentAccount is the service account of agents.
	AgentAccount = "nodegadget-agent"
)

// Node says on which node the agent runs that makes the call of ctx. Kubernetes
// vouches for it: the agent's token is bound to its pod.
func (g *Gate) Node(ctx context.Context) (string, error) {
	token, err := bearerToken(ctx)
	if err != nil {
		return "", err
	}
	if token == "" {
		return "", status.Error(codes.Unauthenticated, "an agent enrols with the token of its service account")
	}
	review, err := g.review(ctx, authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}})
	if err != nil {
		return "", err
	}
	if !slices.Contains(review.Audiences, Audience) {
		return "", status.Errorf(codes.Unauthenticated, "the token is not for the audience %q", Audience)
	}
	if !serviceaccount.MatchesUsername(g.opts.Namespace, AgentAccount, review.User.Username) {
		return "", status.Errorf(codes.PermissionDenied, "user %q is no agent: agents are %q",
			review.User.Username, serviceaccount.MakeUsername(g.opts.Namespace, AgentAccount))
	}
	if node := only(review.User.Extra, serviceaccount.NodeNameKey); node != "" {
		return node, nil
	}
	return g.nodeOfPod(ctx, only(review.User.Extra, serviceaccount.PodNameKey), only(review.User.Extra, serviceaccount.PodUIDKey))
}

func only(extra map[string]authenticationv1.ExtraValue, key string) string {
	if values := extra[key]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// nodeOfPod is for API servers before 1.30, whose tokens don't name the node.
func (g *Gate) nodeOfPod(ctx context.Context, name, uid string) (string, error) {
	if name == "" || uid == "" {
		return "", status.Error(codes.PermissionDenied, "the token is not bound to a pod: agents use projected ones")
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	pod, err := g.opts.Client.CoreV1().Pods(g.opts.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", status.Errorf(codes.Unavailable, "looking up the agent's pod: %v", err)
	}
	if string(pod.UID) != uid || pod.Spec.ServiceAccountName != AgentAccount || pod.Spec.NodeName == "" {
		return "", status.Errorf(codes.PermissionDenied, "the token is for another pod than the one that is called %q now", name)
	}
	return pod.Spec.NodeName, nil
}
