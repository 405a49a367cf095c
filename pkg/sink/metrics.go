// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// defaultMaxSeries bounds the time series if the options don't say.
const defaultMaxSeries = 1000

// MetricsOptions say what is counted.
type MetricsOptions struct {
	Session Session
	// Labels are fields of the record whose values become labels, at most maxLabels.
	Labels []string
	// MaxSeries bounds the time series, 0 for 1000; a histogram counts as one. What has
	// no room is added to a series whose labels say "other".
	MaxSeries int
	// Alive says whether the container of an id still runs; it is called when metrics are
	// collected. Nil: one that has been silent for long is taken for gone.
	Alive func(id string) bool
}

// Metrics adds records up. It is a prometheus.Collector: register it as long as the
// session exists, and only one of a session.
//
// Records of events are counted. Of a table the histograms are added up, and those
// numbers of a row that are 64 bits wide, which counts are and identities are not, unless
// they are called max, min or avg. A snapshot has nothing to add up.
type Metrics struct {
	progress
	opts MetricsOptions

	// collecting guards table, which is nil before the first Run.
	collecting sync.Mutex
	table      *table
}

// NewMetrics makes an output that counts nothing before Run.
func NewMetrics(opts MetricsOptions) *Metrics {
	opts.MaxSeries = cmp.Or(max(opts.MaxSeries, 0), defaultMaxSeries)
	return &Metrics{opts: opts}
}

// Name is what the output is called in a session's status.
func (m *Metrics) Name() string { return "metrics" }

// Describe is part of prometheus.Collector; what there is depends on the gadget.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, metric := range m.collect() {
		out <- metric
	}
}

func (m *Metrics) collect() []prometheus.Metric {
	m.collecting.Lock()
	defer m.collecting.Unlock()
	if m.table == nil {
		return nil
	}
	m.table.expire(time.Now(), m.opts.Alive)
	return m.table.collect()
}

// Run counts what the reader reads, until the tape or the context ends. An error means
// that it could not begin.
func (m *Metrics) Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error {
	m.begin(reader)
	defer m.end()
	span := newSpan(ctx)
	defer span.cancel()
	decoder, err := newDecoder(header)
	if err != nil {
		return m.note(err)
	}
	table, err := newTable(decoder, &m.opts)
	if err != nil {
		return m.note(fmt.Errorf("metrics of %s: %w", decoder.spec.Name, err))
	}
	m.collecting.Lock()
	m.table = table
	m.collecting.Unlock()
	_ = m.note(nil)
	for !span.over() {
		message, err := reader.Next(ctx)
		if err != nil {
			return ended(err)
		}
		decoder.explain(message.GetContainers())
		if batch := message.GetBatch(); batch.GetCount() > 0 {
			m.add(decoder, batch)
		}
	}
	return nil
}

// add adds the records of a batch.
func (m *Metrics) add(d *decoder, batch *wire.Batch) {
	m.collecting.Lock()
	defer m.collecting.Unlock()
	now := time.Now()
	d.each(batch, func(at, _ *place, record []byte) { m.table.add(now, at, record) })
	m.count(int(batch.GetCount()), 0)
}
