// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
)

func TestOwner(t *testing.T) {
	const hash = "pod-template-hash"
	for _, test := range []struct{ name, kind, owner, hash, wantKind, want string }{
		{"deployment", "ReplicaSet", "cart-7d9f8", "7d9f8", "Deployment", "cart"},
		{"deployment with dashes", "ReplicaSet", "cart-api-7d9f8", "7d9f8", "Deployment", "cart-api"},
		{"bare replica set", "ReplicaSet", "cart-7d9f8", "", "ReplicaSet", "cart-7d9f8"},
		{"another hash", "ReplicaSet", "cart-7d9f8", "d9f8", "ReplicaSet", "cart-7d9f8"},
		{"nothing but the hash", "ReplicaSet", "-7d9f8", "7d9f8", "ReplicaSet", "-7d9f8"},
		{"daemon set", "DaemonSet", "cart-7d9f8", "7d9f8", "DaemonSet", "cart-7d9f8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			meta := ownedBy(pod("x", "1"), test.kind, test.owner)
			if test.hash != "" {
				meta.Labels = map[string]string{hash: test.hash}
			}
			got := fromMetadata(meta)
			require.Equal(t, test.wantKind, got.OwnerKind)
			require.Equal(t, test.want, got.OwnerName)
		})
	}
	got := fromMetadata(pod("x", "1"))
	require.Empty(t, got.OwnerKind)
	require.Empty(t, got.OwnerName)
}

// TestStaticPod: the API's image of one has a UID that nothing on the node has.
func TestStaticPod(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct{ name, mirror, want string }{
		{"no static pod", "", "1"},
		{"static pod", hash, hash},
		{"claims to be another pod", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "1"},
		{"claims nonsense", strings.ToUpper(hash), "1"},
	} {
		meta := pod("x", "1")
		meta.Annotations[annotationMirror] = test.mirror
		require.Equal(t, test.want, fromMetadata(meta).UID, test.name)
	}
}

// TestClaimOfAKnownPod isn't believed: it came first, and keeps what it has.
func TestClaimOfAKnownPod(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef"
	f := &follower{pods: map[string]container.Pod{}}
	s := &state{opts: Options{Set: f.set, Drop: f.drop, Stale: f.stale}, known: map[string]container.Pod{}}
	static, claim := pod("static", "1", "a", "b"), pod("claim", "2")
	static.Annotations[annotationMirror], claim.Annotations[annotationMirror] = hash, hash
	require.NoError(t, s.Add(static))
	require.NoError(t, s.Add(claim))
	require.NoError(t, s.Delete(claim))
	require.Equal(t, []string{"set static"}, f.taken())
	require.Equal(t, "static", f.pods[hash].Name)
	require.NoError(t, s.Delete(static))
	require.Equal(t, []string{"drop " + hash}, f.taken())
}
