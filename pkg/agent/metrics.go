// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nodegadget.dev/pkg/version"
)

// metrics reads all numbers when they are asked for: nothing is counted twice, and a
// record costs nothing for being counted.
type metrics struct {
	agent                                           *Agent
	runs, records, lost, skipped, unresolved        *prometheus.Desc
	throttled, loaded                               *prometheus.Desc
	active, programs, maps, memory, runTime         *prometheus.Desc
	containers, pending, cgroups, gone              *prometheus.Desc
	unresolvable, lookupErrors, trackerLost, walks  *prometheus.Desc
	stale, beats, missed, certificate, kernel, info *prometheus.Desc
}

func newMetrics(a *Agent) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("nodegadget_"+name, help, labels, nil)
	}
	return &metrics{
		agent:      a,
		runs:       desc("runs_total", "Runs that were begun.", "gadget"),
		records:    desc("records_total", "Records that passed all filters, lost ones included.", "gadget"),
		lost:       desc("lost_records_total", "Records that were lost, by the stage that had no room.", "gadget", "stage"),
		skipped:    desc("skipped_program_runs_total", "Runs of programs that the kernel left out.", "gadget"),
		unresolved: desc("unresolved_records_total", "Records whose container did not come to be known in time, and what became of them.", "gadget", "fate"),
		throttled:  desc("throttled_records_total", "Records that were left out because their session, its namespace, or their cgroup made more than it may.", "gadget"),
		loaded:     desc("gadgets_loaded", "Gadgets that are loaded; runs that ask the same of the kernel share one."),
		active:     desc("runs", "Runs that are on."),
		programs:   desc("bpf_programs", "eBPF programs that are loaded."),
		maps:       desc("bpf_maps", "eBPF maps that there are."),
		memory:     desc("bpf_memory_bytes", "The kernel's memory for programs and maps."),
		runTime:    desc("bpf_run_seconds", "Time spent in the loaded programs, counted while kernel.bpf_stats_enabled is set."),

		containers:   desc("containers", "Containers that run."),
		pending:      desc("containers_pending", "Containers of which the runtime has not told yet."),
		cgroups:      desc("cgroups", "Cgroups that are known."),
		gone:         desc("cgroups_gone", "Removed cgroups that are still known."),
		unresolvable: desc("unresolved_containers_total", "Containers of which the runtime told nothing in time."),
		lookupErrors: desc("runtime_errors_total", "Times that the container runtime could not be asked."),
		trackerLost:  desc("tracker_lost_total", "Cgroups made or removed that the kernel could not tell of."),
		walks:        desc("cgroup_walks_total", "Times that the tree of cgroups was read."),
		stale:        desc("pods_stale", "Whether news of pods may be missing: the API server does not answer."),

		beats:       desc("heartbeats_total", "Events that the agent made to see whether they come back."),
		missed:      desc("heartbeats_missed_total", "Those of them that did not."),
		certificate: desc("certificate_expiry_seconds", "Unix time at which the agent's certificate expires."),
		kernel:      desc("btf_info", "Where the kernel's types come from; always 1.", "kernel", "source"),
		info:        desc("build_info", "The agent's version; always 1.", "version"),
	}
}

// Describe is part of prometheus.Collector; metrics without descriptions in advance
// may come and go.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	count := func(desc *prometheus.Desc, value uint64, labels ...string) {
		send(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		send(desc, prometheus.GaugeValue, value, labels...)
	}
	a := m.agent
	m.collectRuns(count)
	gauge(m.active, float64(a.runs.Load()))
	gauge(m.loaded, float64(a.ledger.programs()))
	m.collectKernel(gauge)
	m.collectContainers(count, gauge)
	a.sessions.collect(out)
	if a.opts.Heartbeat != nil {
		beats, missed := a.opts.Heartbeat.Beats()
		count(m.beats, beats)
		count(m.missed, missed)
	}
	if a.pair != nil && !a.pair.Expiry().IsZero() {
		gauge(m.certificate, float64(a.pair.Expiry().Unix()))
	}
	gauge(m.kernel, 1, a.opts.Types.Source.Release, string(a.opts.Types.Source.Kind))
	gauge(m.info, 1, version.Version)
}

func (m *metrics) collectRuns(count func(*prometheus.Desc, uint64, ...string)) {
	accounts := m.agent.ledger.accounts()
	for _, gadget := range slices.Sorted(maps.Keys(accounts)) {
		account := accounts[gadget]
		count(m.runs, account.runs, gadget)
		count(m.records, account.records, gadget)
		count(m.lost, account.Kernel, gadget, "kernel")
		count(m.lost, account.Queue, gadget, "queue")
		count(m.skipped, account.Skipped, gadget)
		count(m.unresolved, account.Unresolved, gadget, "sent")
		count(m.unresolved, account.Withheld, gadget, "withheld")
		count(m.throttled, account.Throttled, gadget)
	}
}

func (m *metrics) collectKernel(gauge func(*prometheus.Desc, float64, ...string)) {
	usage, err := readKernelUsage(fdinfo)
	if err != nil {
		return
	}
	gauge(m.programs, float64(usage.programs))
	gauge(m.maps, float64(usage.maps))
	gauge(m.memory, float64(usage.memory))
	gauge(m.runTime, usage.runTime.Seconds())
}

func (m *metrics) collectContainers(count func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	a := m.agent
	if a.opts.Containers == nil {
		return
	}
	stats := a.opts.Containers.Stats()
	gauge(m.containers, float64(stats.Containers))
	gauge(m.pending, float64(stats.Pending))
	gauge(m.cgroups, float64(stats.Cgroups))
	gauge(m.gone, float64(stats.Gone))
	count(m.unresolvable, stats.Unresolved)
	count(m.lookupErrors, stats.ResolveErrors)
	count(m.trackerLost, stats.TrackerLost)
	count(m.walks, stats.Walks)
	stale := 0.0
	if a.stale.Load() {
		stale = 1
	}
	gauge(m.stale, stale)
}

// metricsHandler serves the numbers to Prometheus.
func (a *Agent) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newMetrics(a), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Registry: registry})
}
