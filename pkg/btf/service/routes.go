// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

//go:embed openapi.json
var openAPI []byte

// route is one thing that the server does. openapi.json says the same for
// clients; a test holds both together.
type route struct {
	method, path string
	// query has the names of all query parameters. Others are refused, and so is
	// one that comes twice: a filter that was misspelt must not match everything.
	query []string
	// free routes have no rate, so that whoever watches the server always can.
	free bool
	// serve answers, or returns an error before it sent anything.
	serve func(http.ResponseWriter, *http.Request, url.Values) error
}

var (
	kernelQuery = []string{"distro", "release", "arch", "kernel"}
	hubQuery    = []string{"distribution", "distribution_version", "kernel_version", "arch"}
)

func (s *Server) routes() []route {
	return []route{
		{method: "GET", path: "/v1/kernels", query: kernelQuery, serve: s.kernels},
		{method: "GET", path: "/v1/btf/{distro}/{release}/{arch}/{kernel}", serve: s.download},
		{method: "POST", path: "/v1/tailor", query: kernelQuery, serve: s.tailor},
		{method: "POST", path: "/v1/bundle", query: kernelQuery, serve: s.bundle},
		{method: "GET", path: "/v1/openapi.json", serve: document},
		{method: "GET", path: "/healthz", free: true, serve: healthy},
		{method: "GET", path: "/readyz", free: true, serve: s.ready},
		{method: "GET", path: "/metrics", free: true, serve: s.metrics.serve},
		{method: "GET", path: "/api/v1/list", serve: s.hubList},
		{method: "GET", path: "/api/v1/download", query: hubQuery, serve: s.hubDownload},
		{method: "POST", path: "/api/v1/customize", query: hubQuery, serve: s.hubCustomize},
		{method: "GET", path: "/monitoring/health", free: true, serve: healthy},
		{method: "GET", path: "/monitoring/metrics", free: true, serve: s.metrics.serve},
	}
}

// mux puts the routes together. A path without the method, or no path at all, is
// a route as well, so that it is counted, logged and answered like others.
func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range s.routes() {
		mux.Handle(r.method+" "+r.path, s.handle(r))
		methods[r.path] = append(methods[r.path], r.method)
		if r.method == "GET" {
			methods[r.path] = append(methods[r.path], "HEAD")
		}
	}
	for path, allowed := range methods {
		mux.Handle(path, s.handle(route{path: path, serve: func(w http.ResponseWriter, r *http.Request, _ url.Values) error {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			return refuse(badMethod, "method %.20q: want %s", r.Method, strings.Join(allowed, " or "))
		}}))
	}
	mux.Handle("/", s.handle(route{path: "other", serve: func(_ http.ResponseWriter, r *http.Request, _ url.Values) error {
		return refuse(noRoute, "path %.100q: see /v1/openapi.json", r.URL.Path)
	}}))
	return mux
}

// handle wraps a route in what all have: limits, time, errors, counters, log.
func (s *Server) handle(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
		defer cancel()
		r = r.WithContext(ctx)
		out := &response{ResponseWriter: w, status: http.StatusOK}
		in := &countedBody{ReadCloser: r.Body}
		r.Body = in
		s.metrics.inFlight.Inc()
		defer s.metrics.inFlight.Dec()

		out.Header().Set("X-Content-Type-Options", "nosniff")
		err := s.answer(out, r, route)
		if err != nil {
			s.explain(out, err)
		}
		s.metrics.count(route, out, in, time.Since(start))
		s.log(r, out, in, err, time.Since(start))
	})
}

// answer checks what can be checked before the route is known, and serves it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, route route) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &panicked{cause, debug.Stack()}
		}
	}()
	if !route.free {
		if retry, ok := s.limits.allow(r.RemoteAddr, time.Now()); !ok {
			return &problem{kind: rateLimited, detail: "this address asks too often", retry: retry}
		}
	}
	query, err := parseQuery(r, route)
	if err != nil {
		return err
	}
	return route.serve(w, r, query)
}

func parseQuery(r *http.Request, route route) (url.Values, error) {
	if route.method == "" { // no route: the method or the path is what's wrong
		return nil, nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(badQuery, "query: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(route.query, name) {
			return nil, refuse(badQuery, "parameter %.50q: want %s", name, cmp.Or(strings.Join(route.query, ", "), "none"))
		}
		if len(values) > 1 {
			return nil, refuse(badQuery, "parameter %q comes %d times, want once", name, len(values))
		}
	}
	return query, nil
}

// explain answers with an error.
func (s *Server) explain(w *response, err error) {
	var cause *panicked
	if errors.As(err, &cause) {
		s.opts.Log.Error("panic", "cause", fmt.Sprint(cause.cause), "stack", string(cause.stack))
	}
	p := asProblem(err)
	s.metrics.rejected.WithLabelValues(string(p.kind)).Inc()
	if !w.started { // else it is too late to say anything
		p.write(w)
	}
}

// response remembers what was sent.
type response struct {
	http.ResponseWriter
	started bool
	status  int
	bytes   int64
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	w.started, w.status = true, status
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.started = true
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}
