// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/wire"
)

const (
	// LeaseName is that of the Lease by which one controller of all is chosen.
	LeaseName = "nodegadget-controller"
	// retryPause is how long is waited before it is tried again what went wrong.
	retryPause = 2 * time.Second
	// stopTimeout is how long reconciliations may take to end.
	stopTimeout = 5 * time.Second
	// workers reconcile sessions of one kind at the same time.
	workers = 4
)

// Options say what a controller's half of trace sessions works with.
type Options struct {
	// Config reaches the API server. Required.
	Config *rest.Config
	// Namespace is where the Lease is. Required if LeaderElect is set.
	Namespace string
	// LeaderElect has one controller of several do the work.
	LeaderElect bool
	// Lease is how long a leader may be silent before another takes over; 0 is 15
	// seconds.
	Lease time.Duration
	// Agents calls run for each agent that is there or comes to be: relay.Fleet.Each.
	// Required.
	Agents func(ctx context.Context, run func(ctx context.Context, node string, agent wire.AgentClient))
	// Catalog has the gadgets that sessions may ask for. Required.
	Catalog *gadget.Catalog
	// Log is required.
	Log *slog.Logger
}

// Run looks after sessions until ctx ends. What goes wrong is logged and tried again:
// whoever serves clients beside it isn't disturbed.
func Run(ctx context.Context, opts Options) {
	log.SetLogger(logr.FromSlogHandler(quiet{opts.Log.Handler()}))
	if !awaitDefinitions(ctx, opts) {
		return
	}
	for ctx.Err() == nil {
		if err := lead(ctx, opts); err != nil && ctx.Err() == nil {
			opts.Log.Warn("looking after trace sessions is interrupted", "error", err)
			pause(ctx, retryPause)
		}
	}
}

// pause waits, and says whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// awaitDefinitions waits until the API server knows of sessions.
func awaitDefinitions(ctx context.Context, opts Options) bool {
	client, err := discovery.NewDiscoveryClientForConfig(opts.Config)
	if err != nil {
		opts.Log.Error("trace sessions can't be looked after", "error", err)
		return false
	}
	for told := false; ; {
		err := defined(client)
		if err == nil {
			return true
		}
		if !told {
			opts.Log.Info("trace sessions aren't known to the API server yet; waiting for their definitions", "error", err)
			told = true
		}
		if !pause(ctx, retryPause) {
			return false
		}
	}
}

func defined(client discovery.ServerResourcesInterface) error {
	resources, err := client.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	if err != nil {
		return err
	}
	kinds := map[string]bool{}
	for _, r := range resources.APIResources {
		kinds[r.Kind] = true
	}
	for _, kind := range []string{session.Kind, session.ClusterKind} {
		if !kinds[kind] {
			return fmt.Errorf("there is no %s among %s", kind, v1alpha1.GroupVersion)
		}
	}
	return nil
}

// lead waits until it is this controller's turn, and looks after sessions until ctx ends
// or another takes over.
func lead(ctx context.Context, opts Options) error {
	m, err := newManager(opts)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	b := newBoard()
	l := &listener{board: b, agents: opts.Agents}
	if err := m.Add(manager.RunnableFunc(l.run)); err != nil {
		return err
	}
	j := &judge{catalog: opts.Catalog, specs: map[string]*gadget.Spec{}}
	chatter := rate.NewLimiter(5, 50)
	for _, kind := range []string{session.Kind, session.ClusterKind} {
		r := &reconciler{
			kind: kind, client: m.GetClient(), board: b, judge: j, events: m.GetEventRecorder(fieldOwner), chatter: chatter,
			memories: map[types.NamespacedName]*memory{},
		}
		if err := r.addTo(m); err != nil {
			return fmt.Errorf("making the controller of %s: %w", kind, err)
		}
	}
	return m.Start(ctx)
}

// addTo has the reconciler called when objects or what agents say of them change.
func (r *reconciler) addTo(m manager.Manager) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(r.kind))
	news := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		r.board.onNews(r.kind == session.ClusterKind, func(key types.NamespacedName) { queue.Add(reconcile.Request{NamespacedName: key}) })
		return nil
	})
	return builder.ControllerManagedBy(m).Named(strings.ToLower(r.kind)).
		// Its own writes are no news to it.
		For(object, builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		WatchesRawSource(news).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](250*time.Millisecond, 30*time.Second),
			// There is one after another in a process, and in tests beside another.
			SkipNameValidation: ptr.To(true),
		}).
		Complete(r)
}

func newManager(opts Options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, eventsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	lease := opts.Lease
	if lease == 0 {
		lease = 15 * time.Second
	}
	return manager.New(opts.Config, manager.Options{
		Scheme: scheme,
		Logger: logr.FromSlogHandler(quiet{opts.Log.Handler()}),
		// What is measured is shown by the controller's own server.
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress:  "0",
		LeaderElection:          opts.LeaderElect,
		LeaderElectionID:        LeaseName,
		LeaderElectionNamespace: opts.Namespace,
		LeaseDuration:           &lease,
		RenewDeadline:           ptr.To(lease * 2 / 3),
		RetryPeriod:             ptr.To(lease * 2 / 15),
		// Start returns when nothing runs any more.
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       ptr.To(stopTimeout),
		Cache:                         cache.Options{DefaultTransform: strip},
		Client:                        client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	})
}

// strip drops what nobody here reads.
func strip(object any) (any, error) {
	if u, ok := object.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
		u.SetAnnotations(nil)
	}
	return object, nil
}
