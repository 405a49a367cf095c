// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
)

const (
	// minBackoff and defaultMaxBackoff are how long is waited before the API server is
	// asked again, up to twice that by chance, so that nodes don't ask all at once.
	minBackoff        = 500 * time.Millisecond
	defaultMaxBackoff = 10 * time.Second
	// listTimeout is for one list; a server that hangs isn't waited for.
	listTimeout = 30 * time.Second
	// defaultSettle is how long is waited for more changes after one.
	defaultSettle = 20 * time.Millisecond
)

// resources are those of both kinds.
var resources = []string{"tracesessions", "clustertracesessions"}

// Options say whose sessions to follow, and whom to tell of them.
type Options struct {
	// Config is how to reach the API server. Required.
	Config *rest.Config
	// Node is the node whose sessions are wanted. Required.
	Node string
	// Set is told of all sessions that are for the node, ordered by UID, at first and
	// whenever anything about them changes. Those that are suspended, over or being
	// deleted are among them. It is called by one goroutine, and first when the API
	// server has answered. Required.
	Set func([]session.Session)
	// MaxBackoff is the longest wait before the API server is asked again, which
	// chance up to doubles; 0 is 10 seconds.
	MaxBackoff time.Duration
	// Settle is how long more changes are waited for before Set is called; 0 is 20 ms.
	Settle time.Duration
	// Log gets a line when the API server is away or back; nil is nothing.
	Log *slog.Logger
}

// Run follows sessions until ctx ends.
func Run(ctx context.Context, opts Options) error {
	if opts.Node == "" {
		return errors.New("following trace sessions: the node's name isn't known")
	}
	if opts.MaxBackoff == 0 {
		opts.MaxBackoff = defaultMaxBackoff
	}
	if opts.Settle == 0 {
		opts.Settle = defaultSettle
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	client, err := dynamic.NewForConfig(opts.Config)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	l := newList(opts)
	var group sync.WaitGroup
	for i := range resources {
		store := &store{list: l, known: &l.kinds[i]}
		objects := client.Resource(v1alpha1.GroupVersion.WithResource(resources[i]))
		group.Go(func() { follow(ctx, objects, store, opts.MaxBackoff) })
	}
	l.tell(ctx)
	group.Wait()
	return nil
}

// follow keeps a store in step with the API server until ctx ends.
func follow(ctx context.Context, objects dynamic.ResourceInterface, s *store, maxBackoff time.Duration) {
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			limited, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			list, err := objects.List(limited, options)
			if err != nil {
				s.failed(ctx, err)
				return nil, err
			}
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			news, err := objects.Watch(ctx, options)
			switch {
			// An older server refuses to begin a watch with what there is. It's asked for a
			// list then, which fails if something is wrong with it.
			case err != nil && (options.SendInitialEvents == nil || !isRefusal(err)):
				s.failed(ctx, err)
			case err == nil && options.SendInitialEvents == nil:
				// It goes on where the last one ended. Otherwise Replace follows.
				s.fresh()
			}
			return news, err
		},
	}
	reflector := cache.NewReflectorWithOptions(source, &unstructured.Unstructured{}, s, cache.ReflectorOptions{
		Name: "tracesessions",
		Backoff: &wait.Backoff{
			Duration: min(minBackoff, maxBackoff),
			Cap:      maxBackoff,
			Steps:    100, // more than reaching the cap takes
			Factor:   2,
			Jitter:   1,
		},
	})
	// What the reflector would log is said by the list, in one line instead of many.
	reflector.RunWithContext(logr.NewContext(ctx, logr.Discard()))
}

// isRefusal says that the server answered, and not just that it's busy.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && !apierrors.IsTooManyRequests(err)
}
