// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// resolver answers from a map.
type resolver struct {
	mu    sync.Mutex
	infos map[string]Info
	err   error
	asked int
}

func (r *resolver) Name() string { return "fake" }

func (r *resolver) Lookup(_ context.Context, id string) (Info, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.err != nil {
		return Info{}, r.err
	}
	info, ok := r.infos[id]
	if !ok {
		return Info{}, ErrNotFound
	}
	return info, nil
}

func (r *resolver) set(id string, info Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.infos == nil {
		r.infos = make(map[string]Info)
	}
	r.infos[id], r.err = info, nil
}

var web = Info{
	Name: "web", Image: "docker.io/library/nginx:1.29", ImageDigest: "sha256:" + id2, Runtime: "containerd",
	Pod: Pod{Namespace: "shop", Name: "cart-7d9f", UID: uid, Labels: map[string]string{"app": "cart"}},
}

func TestAContainerIsPendingUntilTheRuntimeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime := &resolver{}
		f := newFake(t, Options{Resolver: runtime}, burstable)
		follower := f.Subscribe()
		follower.Take(nil)
		require.False(t, follower.Dirty())
		own := f.make(burstable + "/" + id1)
		require.True(t, follower.Dirty())
		require.Equal(t, []Change{{CgroupID: own, State: Pending}}, follower.Take(nil))
		f.ask()
		nested := f.make(burstable + "/" + id1 + "/sub")
		require.Equal(t, []Change{{CgroupID: nested, State: Pending}}, follower.Take(nil))
		require.Equal(t, 1, f.Stats().Pending)

		time.Sleep(30 * time.Millisecond)
		require.False(t, follower.Dirty())
		runtime.set(id1, web)
		time.Sleep(30 * time.Millisecond)
		synctest.Wait()
		want := &Container{
			Ref: 1, CgroupID: own, ID: id1, Name: web.Name, Image: web.Image, ImageDigest: web.ImageDigest, Runtime: "containerd", Pod: web.Pod,
		}
		require.Equal(t, []Change{{CgroupID: own, State: Known, Container: want}, {CgroupID: nested, State: Known, Container: want}}, follower.Take(nil))
		require.Equal(t, []*Container{want}, f.Containers())
		require.Equal(t, "fake", f.Stats().Resolver)
		require.Zero(t, f.Stats().Pending)
		require.Less(t, runtime.asked, 8)
		// What comes to be in a known container is known at once.
		late := f.make(burstable + "/" + id1 + "/sub/late")
		require.Equal(t, []Change{{CgroupID: late, State: Known, Container: want}}, follower.Take(nil))
	})
}

func TestALateAnswerStillCounts(t *testing.T) {
	for name, err := range map[string]error{"not found": nil, "no socket": errors.New("connection refused")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runtime := &resolver{err: err}
				f := newFake(t, Options{Resolver: runtime}, burstable)
				follower := f.Subscribe()
				own := f.make(burstable + "/" + id1)
				f.ask()
				follower.Take(nil)
				time.Sleep(defaultResolveTimeout - time.Millisecond)
				synctest.Wait()
				require.False(t, follower.Dirty())
				time.Sleep(time.Millisecond)
				synctest.Wait()
				unresolved := &Container{Ref: 1, CgroupID: own, ID: id1, Pod: Pod{UID: uid}, Unresolved: true}
				require.Equal(t, []Change{{CgroupID: own, State: Known, Container: unresolved}}, follower.Take(nil))
				require.EqualValues(t, 1, f.Stats().Unresolved)
				if err != nil {
					require.Greater(t, f.Stats().ResolveErrors, uint64(5))
				}

				runtime.set(id1, web)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				got := follower.Take(nil)
				require.Len(t, got, 1)
				require.Equal(t, "web", got[0].Container.Name)
				require.EqualValues(t, 1, got[0].Container.Ref)
				require.False(t, got[0].Container.Unresolved)
			})
		})
	}
}

// stuck doesn't answer some questions.
type stuck struct {
	resolver
	now, most int
}

func (s *stuck) Lookup(ctx context.Context, id string) (Info, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	return Info{}, ctx.Err()
}

func TestARuntimeThatHangsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime := &stuck{}
		f := newFake(t, Options{Resolver: runtime, ResolveTimeout: time.Second}, burstable)
		follower := f.Subscribe()
		for i := range 5 * lookups {
			f.make(burstable + "/" + strings.Repeat("0", 62) + string(rune('a'+i/16%6)) + string("0123456789abcdef"[i%16]))
		}
		f.ask()
		time.Sleep(time.Second)
		synctest.Wait()
		known := 0
		for _, change := range follower.Take(nil) {
			if change.State == Known {
				require.True(t, change.Container.Unresolved)
				known++
			}
		}
		require.Equal(t, 5*lookups, known)
		require.Equal(t, lookups, runtime.most)
	})
}
