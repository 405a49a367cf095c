// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"sync"
	"time"
)

// pauses are how long to wait before the runtime is asked again. The last goes on
// until the container is forgotten: its answer is still worth having.
func pauses() []time.Duration {
	return []time.Duration{
		time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
		50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
	}
}

// resolveAll begins to ask about containers that are new.
func (r *Registry) resolveAll(ctx context.Context, workers *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range r.unasked {
		ctx, cancel := context.WithCancel(ctx)
		i.stop = cancel
		workers.Go(func() {
			defer cancel()
			r.resolve(ctx, i)
		})
	}
	r.unasked = nil
}

// resolve asks until there is an answer, or the container is forgotten.
func (r *Registry) resolve(ctx context.Context, i *instance) {
	// Whatever takes long, those that follow are told in time.
	timeout := time.AfterFunc(time.Until(i.since.Add(r.opts.ResolveTimeout)), func() { r.giveUp(i) })
	defer timeout.Stop()
	pauses := pauses()
	for n := 0; ; n++ {
		info, err := r.lookup(ctx, i.id)
		if err == nil {
			r.resolved(i, info)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, ErrNotFound) {
			r.mu.Lock()
			r.resolveErrors++
			r.mu.Unlock()
			r.opts.Log.Debug("the container runtime can't be asked", "container", i.id, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pauses[min(n, len(pauses)-1)]):
		}
	}
}

// lookup waits for its turn, and asks once.
func (r *Registry) lookup(ctx context.Context, id string) (Info, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return Info{}, ctx.Err()
	}
	defer func() { <-r.slots }()
	ctx, cancel := context.WithTimeout(ctx, r.opts.ResolveTimeout)
	defer cancel()
	return r.opts.Resolver.Lookup(ctx, id)
}

// resolved takes what the runtime told, also if it is late.
func (r *Registry) resolved(i *instance, info Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.instances[i] {
		return
	}
	i.info, i.resolved = info, true
	if uid := info.Pod.UID; uid != "" && uid != i.podUID {
		r.byPod[uid] = append(r.byPod[uid], i)
	}
	r.tell(i, true)
}

// giveUp tells what there is to tell, which are the ids.
func (r *Registry) giveUp(i *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.instances[i] || i.known {
		return
	}
	r.unresolved++
	r.tell(i, true)
}
