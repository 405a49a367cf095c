// SPDX-License-Identifier: Apache-2.0

package access

import (
	"testing"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"google.golang.org/grpc/codes"
)

const (
	nodeExtra = "authentication.kubernetes.io/node-name"
	podExtra  = "authentication.kubernetes.io/pod-name"
	uidExtra  = "authentication.kubernetes.io/pod-uid"
)

func agentToken(user string, extra ...string) authenticationv1.TokenReviewStatus {
	review := authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{Audience},
		User: authenticationv1.UserInfo{Username: user, Extra: map[string]authenticationv1.ExtraValue{}},
	}
	for i := 0; i < len(extra); i += 2 {
		review.User.Extra[extra[i]] = append(review.User.Extra[extra[i]], extra[i+1])
	}
	return review
}

func TestAgentsEnrolForTheirNode(t *testing.T) {
	const agent = "system:serviceaccount:nodegadget:nodegadget-agent"
	otherAudience := agentToken(agent, nodeExtra, "node1")
	otherAudience.Audiences = []string{"https://kubernetes.default.svc"}
	oldServer := agentToken(agent, nodeExtra, "node1")
	oldServer.Audiences = nil
	c := &cluster{tokens: map[string]authenticationv1.TokenReviewStatus{
		"new": agentToken(agent, nodeExtra, "node1"), "old": agentToken(agent, podExtra, "agent-1", uidExtra, "u1"),
		"pod is gone": agentToken(agent, podExtra, "agent-1", uidExtra, "u0"), "no pod": agentToken(agent, podExtra, "agent-9", uidExtra, "u9"),
		"other account": agentToken(agent, podExtra, "other", uidExtra, "u2"), "unbound": agentToken(agent),
		"two nodes": agentToken(agent, nodeExtra, "node1", nodeExtra, "node2"),
		"user":      agentToken("jane", nodeExtra, "node1"), "account": agentToken("system:serviceaccount:nodegadget:default", nodeExtra, "node1"),
		"namespace": agentToken("system:serviceaccount:shop:nodegadget-agent", nodeExtra, "node1"),
		"audience":  otherAudience, "no audience": oldServer,
	}}
	pod := func(name, uid, account string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "nodegadget", Name: name, UID: types.UID(uid)},
			Spec:       corev1.PodSpec{NodeName: "node2", ServiceAccountName: account},
		}
	}
	gate := c.gate(pod("agent-1", "u1", AgentAccount), pod("other", "u2", "default"))
	for _, test := range []struct {
		token, node string
		code        codes.Code
		text        string
	}{
		{token: "new", node: "node1"},
		{token: "old", node: "node2"},
		{token: "pod is gone", code: codes.PermissionDenied, text: "for another pod"},
		{token: "no pod", code: codes.Unavailable, text: "not found"},
		{token: "other account", code: codes.PermissionDenied, text: "for another pod"},
		{token: "unbound", code: codes.PermissionDenied, text: "not bound to a pod"},
		{token: "two nodes", code: codes.PermissionDenied, text: "not bound to a pod"},
		{token: "user", code: codes.PermissionDenied, text: `user "jane" is no agent`},
		{token: "account", code: codes.PermissionDenied, text: "is no agent"},
		{token: "namespace", code: codes.PermissionDenied, text: "is no agent"},
		{token: "audience", code: codes.Unauthenticated, text: `not for the audience "nodegadget"`},
		{token: "no audience", code: codes.Unauthenticated, text: `not for the audience "nodegadget"`},
		{token: "forged", code: codes.Unauthenticated, text: "doesn't accept the token"},
	} {
		t.Run(test.token, func(t *testing.T) {
			node, err := gate.Node(calling(t, "authorization", "Bearer "+test.token))
			if test.text != "" {
				requireStatus(t, err, test.code, test.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.node, node)
		})
	}
	_, err := gate.Node(t.Context())
	requireStatus(t, err, codes.Unauthenticated, "enrols with the token")
}
