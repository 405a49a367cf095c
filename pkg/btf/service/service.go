// SPDX-License-Identifier: Apache-2.0

// Package service answers over HTTP what btfgen does on the command line: it
// lists the kernels of an archive, hands out their BTF whole, and tailors it for
// objects that are uploaded, one kernel at a time or as a bundle. The routes are
// in openapi.json, which the server hands out itself. Beside them stand those of
// btfhub-online, whose clients can go on as they are.
//
// Everything that a client sends is hostile. Requests are bounded in size, number
// and time; what exceeds a bound is answered with a problem (RFC 9457) and, where
// it helps, with when to come back. There is no authentication: what the server
// knows is public, and an upload is forgotten when it is answered. TLS, if the
// network needs it, is the listener's.
//
// Its client is pkg/btf/service/client. Archives are made by pkg/btf/hub; parsing
// flags and signals is the business of cmd/btfgen.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// Options say what a server serves, and its bounds. A zero bound means the default.
type Options struct {
	// Archive has the kernels. Required. The caller closes it after the server ended.
	Archive *Archive
	// MaxObject bounds one uploaded object, in bytes; default 8 MiB.
	MaxObject int64
	// MaxObjects bounds the objects of one request; default 16.
	MaxObjects int
	// MaxKernels bounds the kernels of one bundle; default 256.
	MaxKernels int
	// MaxBundle bounds the contents of one bundle, in bytes; default 32 MiB.
	MaxBundle int64
	// Memory bounds what uploads and bundles may take at a time, in bytes; default
	// 512 MiB, at least what one request may have.
	Memory int64
	// Concurrency is how many kernels are worked on at a time; default: the number
	// of CPUs. Each takes about 30 MB, at most some 100.
	Concurrency int
	// Queue is how many more uploads may wait; default 64, negative none.
	Queue int
	// CacheBytes bounds the tailored BTF that is kept, in bytes; default 64 MiB,
	// negative none.
	CacheBytes int64
	// Rate is how many requests a second a client may make, and Burst how many at
	// once; default 10 and 50. A negative Rate is no limit. Clients are told apart
	// by their address: behind a proxy all are one.
	Rate  float64
	Burst int
	// Timeout bounds a request from its header to its answer; default 1 min.
	Timeout time.Duration
	// Grace is how long requests may go on after Serve's context ended; default 15 s.
	Grace time.Duration
	// RefreshInterval is how often Serve indexes the archive again; default 1 min,
	// negative never.
	RefreshInterval time.Duration
	// Log gets one line for each request; nil discards them.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	o.MaxObject = cmp.Or(o.MaxObject, 8<<20)
	o.MaxObjects = cmp.Or(o.MaxObjects, 16)
	o.MaxKernels = cmp.Or(o.MaxKernels, 256)
	o.MaxBundle = cmp.Or(o.MaxBundle, 32<<20)
	o.Memory = cmp.Or(o.Memory, 512<<20)
	o.Concurrency = cmp.Or(o.Concurrency, runtime.GOMAXPROCS(0))
	o.Queue = max(0, cmp.Or(o.Queue, 64))
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.Rate = cmp.Or(o.Rate, 10)
	o.Burst = cmp.Or(o.Burst, 50)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.Grace = cmp.Or(o.Grace, 15*time.Second)
	o.RefreshInterval = cmp.Or(o.RefreshInterval, time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	if o.Archive == nil {
		return errors.New("no archive: open one with OpenArchive")
	}
	least := min(o.MaxObject, o.MaxBundle, o.Memory, int64(min(o.MaxObjects, o.MaxKernels, o.Concurrency, o.Burst)), int64(min(o.Timeout, o.Grace)))
	if least < 0 {
		return errors.New("a bound is negative: want zero for the default, or more")
	}
	return nil
}

// Server is the service. Make it with New.
type Server struct {
	opts    Options
	limits  *limits
	cache   *cache
	flights singleflight.Group
	metrics *metrics
	handler http.Handler
	// ending is set when Serve's context ended.
	ending atomic.Bool
}

// New makes a server. It fails for options that make no sense.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("BTF service: %w", err)
	}
	s := &Server{opts: opts.withDefaults()}
	s.opts.Memory = max(s.opts.Memory, s.maxUpload()+s.opts.MaxBundle)
	s.limits = newLimits(s.opts)
	s.cache = newCache(s.opts.CacheBytes)
	s.metrics = newMetrics(s)
	s.handler = s.mux()
	return s, nil
}

// Handler returns the routes, to be put on a server of the caller's. That server
// has to bound the time that headers and slow connections take; Serve does.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests on the listener until the context ends. Then it accepts
// no more, lets running requests end for Options.Grace, and closes what is left.
// It returns nil if all went well, an error if the listener failed or requests had
// to be cut off. Call it once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       s.opts.Timeout,
		// The last word of a request that timed out must get through as well.
		WriteTimeout:   s.opts.Timeout + 10*time.Second,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving BTF: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		s.refresh(ctx)
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return s.shutdown(context.WithoutCancel(ctx), server)
	})
	return group.Wait()
}

func (s *Server) shutdown(ctx context.Context, server *http.Server) error {
	s.ending.Store(true)
	s.opts.Log.Info("BTF service ends", "grace", s.opts.Grace)
	ctx, cancel := context.WithTimeout(ctx, s.opts.Grace)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
		return fmt.Errorf("ending BTF service: requests cut off after %s: %w", s.opts.Grace, err)
	}
	// Requests that gave up may have left work behind.
	if err := s.limits.idle(ctx); err != nil {
		return fmt.Errorf("ending BTF service: work still running after %s: %w", s.opts.Grace, err)
	}
	return nil
}

// refresh indexes the archive again from time to time until the context ends.
func (s *Server) refresh(ctx context.Context) {
	if s.opts.RefreshInterval < 0 {
		return
	}
	ticker := time.NewTicker(s.opts.RefreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := s.opts.Archive.Refresh(); err != nil {
				s.opts.Log.Warn("archive not indexed again", "error", err)
			}
		}
	}
}
