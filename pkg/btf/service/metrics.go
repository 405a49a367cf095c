// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the server's counters, in a registry of their own.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	rejected *prometheus.CounterVec
	received prometheus.Counter
	sent     prometheus.Counter
	hits     prometheus.Counter
	misses   prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "btfgen", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "btfgen", Name: name, Help: help}
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(counter("requests_total", "Requests that were answered."), []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "btfgen", Name: "request_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(gauge("requests_in_flight", "Requests that are being answered.")),
		rejected: prometheus.NewCounterVec(counter("rejected_total", "Requests answered with a problem, by its type."), []string{"reason"}),
		received: prometheus.NewCounter(counter("received_bytes_total", "Bytes of requests' bodies.")),
		sent:     prometheus.NewCounter(counter("sent_bytes_total", "Bytes of answers' bodies.")),
		hits:     prometheus.NewCounter(counter("cache_hits_total", "Kernels whose tailored BTF was in the cache.")),
		misses:   prometheus.NewCounter(counter("cache_misses_total", "Kernels whose BTF had to be tailored.")),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		m.requests, m.seconds, m.inFlight, m.rejected, m.received, m.sent, m.hits, m.misses,
		prometheus.NewGaugeFunc(gauge("cache_bytes", "What the cache takes."), func() float64 {
			return float64(s.cache.used())
		}),
		prometheus.NewGaugeFunc(gauge("archive_kernels", "Kernels in the archive."), func() float64 {
			return float64(len(s.opts.Archive.Kernels()))
		}),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Registry: registry})
	return m
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	m.handler.ServeHTTP(w, r)
	return nil
}

// count adds a request that was answered.
func (m *metrics) count(route route, out *response, in *countedBody, took time.Duration) {
	// Only methods of routes, or hostile ones would fill the memory.
	m.requests.WithLabelValues(route.path, cmp.Or(route.method, "other"), strconv.Itoa(out.status)).Inc()
	m.seconds.WithLabelValues(route.path).Observe(took.Seconds())
	m.received.Add(float64(in.bytes))
	m.sent.Add(float64(out.bytes))
}

// countedBody counts what is read from a request.
type countedBody struct {
	io.ReadCloser
	bytes int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	return n, err
}

// log writes the request's line. What the client chose is escaped and cut.
func (s *Server) log(r *http.Request, out *response, in *countedBody, err error, took time.Duration) {
	attributes := []any{
		"method", printable(r.Method, 20),
		"uri", printable(r.RequestURI, 500),
		"client", r.RemoteAddr,
		"agent", printable(r.UserAgent(), 100),
		"status", out.status,
		"received", in.bytes,
		"sent", out.bytes,
		"seconds", took.Seconds(),
	}
	if err != nil {
		attributes = append(attributes, "error", printable(err.Error(), maxDetail))
	}
	s.opts.Log.InfoContext(r.Context(), "request", attributes...)
}
