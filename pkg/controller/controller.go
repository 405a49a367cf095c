// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/relay"
	"nodegadget.dev/pkg/session/reconcile"
	"nodegadget.dev/pkg/version"
	"nodegadget.dev/pkg/wire"
)

const (
	// ServiceName is that of the controller's Service.
	ServiceName = "nodegadget-controller"
	// shutdownTimeout is how long clients get to receive the end of their sessions.
	shutdownTimeout = 5 * time.Second
)

// Options say what a controller works with.
type Options struct {
	// Config reaches the API server. Required.
	Config *rest.Config
	// Namespace is where the controller and the agents are. Required.
	Namespace string
	// Listen is where clients and agents come, HTTP where metrics and health are:
	// "host:port". Required.
	Listen, HTTP string
	// Limits bound what clients may take; zero ones have their defaults.
	Limits Limits
	// LeaderElect has one controller of several look after trace sessions; without it
	// there must be only one.
	LeaderElect bool
	// Log is required.
	Log *slog.Logger
}

// Limits bound what clients may take.
type Limits struct {
	// Sessions go on at the same time, SessionsPerUser of them for one user.
	Sessions, SessionsPerUser int
	// SessionMemory is how many bytes are kept for a session's client, MergeMemory how
	// many wait to be put in order.
	SessionMemory, MergeMemory int
	// MergeWindow is how long records wait for older ones of other nodes.
	MergeWindow time.Duration
	// Linger is how long a session waits for a client whose connection broke, Stall how
	// long a client may read nothing.
	Linger, Stall time.Duration
	// Recheck is how often at least it is asked whether users may still see what they see.
	Recheck time.Duration
}

// DefaultLimits are those that zero ones stand for.
func DefaultLimits() Limits {
	return Limits{
		Sessions: relay.DefaultMaxSessions, SessionsPerUser: relay.DefaultMaxSessionsPerCaller,
		SessionMemory: relay.DefaultMemory, MergeMemory: relay.DefaultMergeMemory, MergeWindow: relay.DefaultWindow,
		Linger: relay.DefaultLinger, Stall: relay.DefaultStall, Recheck: relay.DefaultRecheck,
	}
}

// controller is what Run has put together.
type controller struct {
	opts      Options
	client    kubernetes.Interface
	authority *authority
	pair      *pki.KeyPair
	clientCA  *dynamiccertificates.ConfigMapCAController
	fleet     *relay.Fleet
	relay     *relay.Relay
	gate      *access.Gate
	enrolment *enrolment
	agents    *agents
	// sessions looks after trace sessions until its context ends; nil if nobody does.
	sessions func(context.Context)
}

// Run serves clients and agents until ctx ends.
func Run(ctx context.Context, opts Options) error {
	client, err := kubernetes.NewForConfig(opts.Config)
	if err != nil {
		return fmt.Errorf("reaching the API server: %w", err)
	}
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return fmt.Errorf("listening for clients: %w", err)
	}
	defer listener.Close()
	status, err := net.Listen("tcp", opts.HTTP)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w", err)
	}
	defer status.Close()
	c, err := prepare(ctx, opts, client)
	if err != nil {
		return err
	}
	// Descriptions are the same on all architectures.
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "")
	if err != nil {
		return err
	}
	c.sessions = func(ctx context.Context) {
		reconcile.Run(ctx, reconcile.Options{
			Config: opts.Config, Namespace: opts.Namespace, LeaderElect: opts.LeaderElect,
			Agents: c.fleet.Each, Catalog: catalog, Log: opts.Log,
		})
	}
	return c.serve(ctx, listener, status)
}

// prepare opens the authority and makes the parts; none of them runs yet.
func prepare(ctx context.Context, opts Options, client kubernetes.Interface) (*controller, error) {
	c := &controller{opts: opts, client: client, pair: &pki.KeyPair{}}
	var err error
	if c.authority, err = openAuthority(ctx, client, opts.Namespace); err != nil {
		return nil, err
	}
	own, err := c.authority.own(ctx)
	if err != nil {
		return nil, err
	}
	c.pair.Set(own)
	c.fleet = relay.NewFleet(func(node string) (*tls.Config, error) {
		identity, err := pki.Agent(node)
		if err != nil {
			return nil, err
		}
		return pki.ClientConfig(c.pair.GetClientCertificate, c.authority.roots, identity), nil
	})
	// As an aggregated API server learns whose certificates are users'.
	c.clientCA, err = dynamiccertificates.NewDynamicCAFromConfigMapController(
		"client-ca", "kube-system", "extension-apiserver-authentication", "client-ca-file", client)
	if err != nil {
		return nil, fmt.Errorf("following the cluster's client authority: %w", err)
	}
	c.gate = access.New(access.Options{Client: client, Namespace: opts.Namespace, ClientCA: c.clientCA.VerifyOptions})
	l := opts.Limits
	c.relay = relay.New(relay.Options{
		Fleet: c.fleet, Gate: c.gate, Log: opts.Log, MaxSessions: l.Sessions, MaxSessionsPerCaller: l.SessionsPerUser,
		Memory: l.SessionMemory, MergeMemory: l.MergeMemory, Window: l.MergeWindow, Linger: l.Linger, Stall: l.Stall,
		Recheck: l.Recheck,
	})
	c.enrolment = &enrolment{gate: c.gate, authority: c.authority, log: opts.Log}
	return c, nil
}

// serve runs all parts until ctx ends or one of them fails.
func (c *controller) serve(ctx context.Context, listener, status net.Listener) error {
	// Parts run until all clients have been told of the end.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var err error
	if c.agents, err = followAgents(parts, c.client, c.opts.Namespace, c.fleet); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	c.background(parts, group)
	server := c.newServer()
	group.Go(func() error {
		if err := server.Serve(listener); err != nil {
			return fmt.Errorf("serving clients: %w", err)
		}
		return nil
	})
	web := &http.Server{Handler: monitor(newMetrics(c), c.ready), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	group.Go(func() error {
		if err := web.Serve(status); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving metrics: %w", err)
		}
		return nil
	})
	c.opts.Log.Info("serving", "address", listener.Addr().String(), "http", status.Addr().String(), "version", version.Version)
	<-ctx.Done()
	c.shutDown(server, web)
	stop()
	c.agents.stop()
	return group.Wait()
}

// background starts what has no port.
func (c *controller) background(ctx context.Context, group *errgroup.Group) {
	warn := func(what string) func(error) {
		return func(err error) { c.opts.Log.Warn(what, "error", err) }
	}
	group.Go(func() error {
		c.pair.Rotate(ctx, c.authority.own, warn("no new certificate for the controller itself"))
		return nil
	})
	group.Go(func() error {
		c.authority.follow(ctx, followPeriod, c.pair, warn("the authority may not be known to everybody"))
		return nil
	})
	group.Go(func() error {
		// Without it, users with certificates are unknown, and those with tokens aren't.
		if err := c.clientCA.RunOnce(ctx); err != nil && ctx.Err() == nil {
			c.opts.Log.Warn("the cluster's client authority isn't known yet", "error", err)
		}
		c.clientCA.Run(ctx, 1)
		return nil
	})
	if c.sessions != nil {
		group.Go(func() error {
			c.sessions(ctx)
			return nil
		})
	}
}

func (c *controller) newServer() *grpc.Server {
	opts := append(relay.ServerOptions(), grpc.Creds(credentials.NewTLS(pki.OpenServerConfig(c.pair))))
	server := grpc.NewServer(opts...)
	wire.RegisterRelayServer(server, c.relay)
	wire.RegisterEnrolmentServer(server, c.enrolment)
	return server
}

// ready says why the controller can't serve yet.
func (c *controller) ready() error {
	if !c.agents.synced() {
		return errors.New("looking for the agents")
	}
	return nil
}

// shutDown lets sessions end in good order.
func (c *controller) shutDown(server *grpc.Server, web *http.Server) {
	hurry := time.AfterFunc(shutdownTimeout, server.Stop)
	defer hurry.Stop()
	c.relay.Close()
	server.GracefulStop()
	c.fleet.Close()
	// Nobody's work is lost with an unfinished answer about metrics.
	_ = web.Close()
}
