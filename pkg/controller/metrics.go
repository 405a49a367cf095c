// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"nodegadget.dev/pkg/version"
)

// metrics reads all numbers when they are asked for.
type metrics struct {
	*controller

	sessions, lingering, records, lost, cutOff, withdrawn, up, certificate, issued, refused, info *prometheus.Desc
}

func newMetrics(c *controller) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("nodegadget_relay_"+name, help, labels, nil)
	}
	return &metrics{
		controller:  c,
		sessions:    desc("sessions", "Sessions that go on."),
		lingering:   desc("sessions_lingering", "Sessions that wait for a client whose connection broke."),
		records:     desc("records_total", "Records that agents sent."),
		lost:        desc("lost_records_total", "Records that were dropped because a client did not read."),
		cutOff:      desc("clients_cut_off_total", "Clients that were given up because they did not read."),
		withdrawn:   desc("streams_withdrawn_total", "Streams that were ended because their callers may not see them any more, or nobody said so for too long.", "reason"),
		up:          desc("node_up", "Whether there is a connection to the node's agent.", "node"),
		certificate: desc("certificate_expiry_seconds", "Unix time at which the controller's certificate expires."),
		issued:      desc("certificates_issued_total", "Certificates issued to agents."),
		refused:     desc("certificates_refused_total", "Callers that asked for an agent's certificate in vain."),
		info:        desc("build_info", "The controller's version; always 1.", "version"),
	}
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, descs) }

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	stats := m.relay.Stats()
	gauge(m.sessions, float64(stats.Sessions))
	gauge(m.lingering, float64(stats.Lingering))
	counter(m.records, stats.Records)
	counter(m.lost, stats.Lost)
	counter(m.cutOff, stats.CutOff)
	counter(m.withdrawn, stats.Denied, "right")
	counter(m.withdrawn, stats.Void, "credentials")
	counter(m.withdrawn, stats.Unanswered, "unanswered")
	counter(m.issued, m.enrolment.issued.Load())
	counter(m.refused, m.enrolment.refused.Load())
	for _, node := range stats.Nodes {
		up := 0.0
		if node.Up {
			up = 1
		}
		gauge(m.up, up, node.Name)
	}
	if expiry := m.pair.Expiry(); !expiry.IsZero() {
		gauge(m.certificate, float64(expiry.Unix()))
	}
	gauge(m.info, 1, version.Version)
}

// monitor serves /metrics, /healthz and /readyz. Ready says why the controller can't
// serve yet.
func monitor(m *metrics, ready func() error) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	all := prometheus.Gatherers{registry, prometheus.GathererFunc(reconciling)}
	mux.Handle("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, ready()) })
	return mux
}

// reconciling are the metrics that controller-runtime keeps for the whole process, but
// for those of the process itself, which the other registry has.
func reconciling() ([]*dto.MetricFamily, error) {
	families, err := ctrlmetrics.Registry.Gather()
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool {
		return strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_")
	}), err
}

func answer(w http.ResponseWriter, err error) {
	text := "ok"
	if err != nil {
		text = err.Error()
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// Who doesn't read the answer doesn't want it.
	_, _ = w.Write([]byte(text + "\n"))
}
