// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"nodegadget.dev/pkg/session"
)

// list is what is known of both kinds.
type list struct {
	opts Options
	// changed has one element when there may be news for Set.
	changed chan struct{}

	mu    sync.Mutex
	kinds [2]kind
	// told is what was logged last.
	told outlook
	// last is what Set was last called with; called is whether it was.
	last   []session.Session
	called bool
}

// kind is what is known of one kind.
type kind struct {
	sessions map[types.UID]session.Session
	// answered says that the API server listed it once, or said that there is none.
	answered bool
	// problem is why it can't be asked now; empty if it can.
	problem string
}

func newList(opts Options) *list {
	l := &list{opts: opts, changed: make(chan struct{}, 1)}
	for i := range l.kinds {
		l.kinds[i].sessions = map[types.UID]session.Session{}
	}
	return l
}

// notify makes tell look. The caller holds mu.
func (l *list) notify() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// tell calls Set with what is new, until ctx ends.
func (l *list) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.opts.Settle):
		}
		if wanted, news := l.wanted(); news {
			l.opts.Set(wanted)
		}
	}
}

// wanted lists the sessions of the node, and says whether that is news.
func (l *list) wanted() ([]session.Session, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := []session.Session{}
	for _, k := range l.kinds {
		if !k.answered {
			return nil, false
		}
		for _, s := range k.sessions {
			wanted = append(wanted, s)
		}
	}
	slices.SortFunc(wanted, func(a, b session.Session) int { return cmp.Compare(a.UID, b.UID) })
	if l.called && slices.EqualFunc(wanted, l.last, same) {
		return nil, false
	}
	l.called, l.last = true, wanted
	return slices.Clone(wanted), true
}

// same says that nothing that an agent acts on has changed: the API server counts the
// changes of a spec, but not of a label.
func same(a, b session.Session) bool {
	return a.UID == b.UID && a.Generation == b.Generation && a.Deleting == b.Deleting && a.Interactive == b.Interactive
}

// missing is the problem of a cluster without the definitions.
const missing = "no such resource"

// outlook is how following sessions goes.
type outlook uint8

const (
	good outlook = iota
	// waiting is for the definitions, away is the API server.
	waiting
	away
)

// say logs how it goes, when that has changed. The caller holds mu.
func (l *list) say() {
	now, why := good, ""
	for _, k := range l.kinds {
		switch k.problem {
		case "":
		case missing:
			now = max(now, waiting)
		default:
			now, why = away, k.problem
		}
	}
	if now == l.told {
		return
	}
	l.told = now
	switch now {
	case waiting:
		l.opts.Log.Info("trace sessions: the API server doesn't know of them; waiting for their definitions")
	case away:
		l.opts.Log.Warn("trace sessions: the API server can't be asked, those that are known go on", "error", why)
	default:
		l.opts.Log.Info("trace sessions: in step with the API server")
	}
}

// store is what a cache.Reflector fills: one kind of the list.
type store struct {
	list  *list
	known *kind
}

// failed is told when the API server can't be asked.
func (s *store) failed(ctx context.Context, err error) {
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	if ctx.Err() != nil {
		return // That was the end of Run.
	}
	if apierrors.IsNotFound(err) {
		s.known.problem = missing
		// There can't be any, but for those that were there a moment ago: they go when
		// the server says so.
		s.known.answered = true
		s.list.notify()
	} else {
		s.known.problem = err.Error()
	}
	s.list.say()
}

// fresh is told when nothing is missed any more.
func (s *store) fresh() {
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	s.known.problem = ""
	s.list.say()
}

// Add is part of cache.ReflectorStore.
func (s *store) Add(object any) error { return s.Update(object) }

// Update is part of cache.ReflectorStore.
func (s *store) Update(object any) error {
	u, err := fromObject(object)
	if err != nil {
		return err
	}
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	s.learn(u)
	s.list.notify()
	return nil
}

// Delete is part of cache.ReflectorStore.
func (s *store) Delete(object any) error {
	u, err := fromObject(object)
	if err != nil {
		return err
	}
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	delete(s.known.sessions, u.GetUID())
	s.list.notify()
	return nil
}

// Replace is part of cache.ReflectorStore: these are all sessions that there are.
func (s *store) Replace(objects []any, _ string) error {
	s.list.mu.Lock()
	defer s.list.mu.Unlock()
	clear(s.known.sessions)
	for _, object := range objects {
		u, err := fromObject(object)
		if err != nil {
			return err
		}
		s.learn(u)
	}
	s.known.answered, s.known.problem = true, ""
	s.list.say()
	s.list.notify()
	return nil
}

// Resync is part of cache.ReflectorStore, and means nothing here.
func (s *store) Resync() error { return nil }

// learn keeps a session that is for the node. One that can't be understood isn't run,
// and the controller says why. The caller holds the list's mu.
func (s *store) learn(u *unstructured.Unstructured) {
	read, err := session.Decode(u)
	if err != nil || !read.On(s.list.opts.Node) {
		delete(s.known.sessions, u.GetUID())
		return
	}
	s.known.sessions[u.GetUID()] = read
}

func fromObject(object any) (*unstructured.Unstructured, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("the API server sent a %T instead of a trace session", object)
	}
	return u, nil
}
