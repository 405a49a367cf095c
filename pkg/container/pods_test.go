// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPodsAreToldBeforeOrAfterTheirContainers(t *testing.T) {
	news := Pod{
		Namespace: "shop", Name: "cart-7d9f", UID: uid, Labels: map[string]string{"app": "basket"}, OwnerKind: "Deployment", OwnerName: "cart",
	}
	f := newFake(t, Options{}, burstable)
	follower := f.Subscribe()
	f.SetPods(news)
	f.make(burstable + "/" + id1)
	require.Equal(t, news, f.Containers()[0].Pod, "before")
	follower.Take(nil)
	f.SetPods(news)
	require.False(t, follower.Dirty(), "nothing new")

	changed := news
	changed.Labels = map[string]string{"app": "cart"}
	f.SetPods(changed, Pod{UID: static})
	got := follower.Take(nil)
	require.Len(t, got, 1, "after")
	require.Equal(t, changed, got[0].Container.Pod)
	require.EqualValues(t, 1, got[0].Container.Ref)

	f.DropPods(uid)
	f.SetStale(true)
	got = follower.Take(nil)
	require.Len(t, got, 1)
	require.True(t, got[0].Container.Stale)
	require.Equal(t, changed, got[0].Container.Pod, "what was known stays")
	f.SetStale(false)
	require.False(t, follower.Take(nil)[0].Container.Stale)
	require.NotContains(t, f.pods, uid)
	f.make(id2)
	f.SetStale(true)
	require.False(t, f.Containers()[1].Stale, "it is in no pod")
}

func TestThePodOfAContainerMayBeKnownByTheRuntimeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime := &resolver{}
		runtime.set(id1, web)
		f := newFake(t, Options{Resolver: runtime}, "k8s.io/"+id1)
		f.ask()
		synctest.Wait()
		require.Equal(t, web.Pod, f.Containers()[0].Pod)
		f.SetPods(Pod{UID: uid, OwnerKind: "Job", OwnerName: "pay"})
		require.Equal(t, Pod{Namespace: "shop", Name: "cart-7d9f", UID: uid, OwnerKind: "Job", OwnerName: "pay"}, f.Containers()[0].Pod)
		f.removeCgroup("k8s.io/" + id1)
		f.expire(time.Now().Add(time.Hour))
		require.Empty(t, f.byPod)
	})
}
