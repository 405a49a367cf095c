// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"nodegadget.dev/pkg/container"
)

const (
	// minBackoff and defaultMaxBackoff are how long is waited before the API server is
	// asked again, up to twice that by chance, so that nodes don't ask all at once.
	minBackoff        = 500 * time.Millisecond
	defaultMaxBackoff = 10 * time.Second
	// listTimeout is for one list; a server that hangs isn't waited for.
	listTimeout = 30 * time.Second
)

// Options say whose pods to follow, and whom to tell of them.
type Options struct {
	// Config is how to reach the API server. Required.
	Config *rest.Config
	// Node is the node whose pods are followed. Required.
	Node string
	// Set is told of pods that are new or changed, Drop of the UIDs of pods that are
	// no more, and Stale whether there may be news that they weren't told of. They
	// are called one at a time. Required.
	Set   func(pods ...container.Pod)
	Drop  func(uids ...string)
	Stale func(stale bool)
	// MaxBackoff is the longest wait before the API server is asked again, which
	// chance up to doubles; 0 is 10 seconds.
	MaxBackoff time.Duration
	// Log gets a line when the API server is away or back; nil is nothing.
	Log *slog.Logger
}

// Informer follows pods.
type Informer struct {
	opts  Options
	pods  metadata.ResourceInterface
	state *state
}

// New makes an informer. It asks nothing before Run.
func New(opts Options) (*Informer, error) {
	if opts.Node == "" {
		return nil, errors.New("following pods: the node's name isn't known")
	}
	if opts.MaxBackoff == 0 {
		opts.MaxBackoff = defaultMaxBackoff
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	client, err := metadata.NewForConfig(opts.Config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return &Informer{
		opts:  opts,
		pods:  client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}),
		state: &state{opts: opts, known: map[string]container.Pod{}},
	}, nil
}

// Run follows pods until ctx ends. It may be called once.
func (i *Informer) Run(ctx context.Context) {
	// What the reflector would log is said by state, in one line instead of many.
	ctx = logr.NewContext(ctx, logr.Discard())
	source := &cache.ListWatch{ListWithContextFunc: i.list, WatchFuncWithContext: i.watch}
	reflector := cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, i.state, cache.ReflectorOptions{
		Name: "pods",
		Backoff: &wait.Backoff{
			Duration: min(minBackoff, i.opts.MaxBackoff),
			Cap:      i.opts.MaxBackoff,
			Steps:    100, // more than reaching the cap takes
			Factor:   2,
			Jitter:   1,
		},
	})
	reflector.RunWithContext(ctx)
}

// list asks for all pods of the node.
func (i *Informer) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := i.pods.List(limited, i.only(options))
	if err != nil {
		i.state.failed(ctx, err)
		return nil, err
	}
	return list, nil
}

// watch asks for news of the node's pods.
func (i *Informer) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	news, err := i.pods.Watch(ctx, i.only(options))
	if err != nil {
		// An older server refuses to begin a watch with what there is. It's asked for a
		// list then, which fails if something is wrong with it.
		if options.SendInitialEvents == nil || !isRefusal(err) {
			i.state.failed(ctx, err)
		}
		return nil, err
	}
	if options.SendInitialEvents == nil {
		// It goes on where the last one ended. Otherwise Replace follows.
		i.state.fresh()
	}
	return news, nil
}

// isRefusal says that the server answered, and not just that it's busy.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && !apierrors.IsTooManyRequests(err)
}

func (i *Informer) only(options metav1.ListOptions) metav1.ListOptions {
	options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", i.opts.Node).String()
	return options
}
