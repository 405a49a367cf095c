// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/print"
)

const (
	// maxLabels bounds the fields that become labels, maxLabel a label's value in bytes.
	maxLabels = 8
	maxLabel  = 128
	// silence is after what time the series of a container that is gone are dropped.
	silence = 5 * time.Minute
	// other is the value of all labels of the series that has what found no room.
	other = "other"
	// separator stands between label values in keys: no text has it.
	separator = 0xff
)

// fixedLabels are those that all metrics have, before the chosen ones.
var fixedLabels = []string{"session", "session_namespace", "gadget", "namespace", "pod", "container"}

// table is what has been added up, by labels. It is guarded by its Metrics.
type table struct {
	session  []string
	measures []*measure
	columns  []*event.Column
	series   map[string]*series
	limit    int
	// overflow counts the records that found no room.
	overflow     uint64
	overflowDesc *prometheus.Desc
	key          []byte
}

// series is one combination of labels.
type series struct {
	labels  []string
	amounts []amount
	// id is that of the container that added last, empty for a host. Neither a host nor
	// what found no room is ever gone.
	id   string
	rest bool
	seen time.Time
}

func newTable(d *decoder, opts *MetricsOptions) (*table, error) {
	t := &table{
		session: []string{opts.Session.Name, opts.Session.Namespace, d.spec.Name},
		series:  map[string]*series{},
	}
	if len(opts.Labels) > maxLabels {
		return nil, fmt.Errorf("%d labels, at most %d are allowed", len(opts.Labels), maxLabels)
	}
	names := slices.Clone(fixedLabels)
	for _, field := range opts.Labels {
		column, err := d.schema.Column(field)
		if err != nil {
			return nil, fmt.Errorf("labels: %w", err)
		}
		if column.Kind == event.Slots {
			return nil, fmt.Errorf("labels: %s is a list of counts", field)
		}
		name := labelName(field)
		if slices.Contains(fixedLabels, name) || name == "le" || strings.HasPrefix(name, "__") {
			name = "field_" + name
		}
		if slices.Contains(names, name) {
			return nil, fmt.Errorf("labels: %q stands twice", field)
		}
		names, t.columns = append(names, name), append(t.columns, column)
	}
	var err error
	if t.measures, err = newMeasures(d.spec, d.schema); err != nil {
		return nil, err
	}
	for _, m := range t.measures {
		m.desc = prometheus.NewDesc(m.name, m.help, names, nil)
	}
	t.overflowDesc = prometheus.NewDesc(metricPrefix+"overflow_records_total",
		"Records of a trace session that found no room among its series.", fixedLabels[:len(t.session)], nil)
	t.limit = max(opts.MaxSeries/len(t.measures), 1)
	return t, nil
}

// labelName is a field's name as Prometheus has names.
func labelName(field string) string { return strings.ReplaceAll(field, ".", "_") }

// add adds a record.
func (t *table) add(now time.Time, at *place, record []byte) {
	t.key = t.key[:0]
	for _, text := range [...]string{at.Namespace, at.Pod, at.Container} {
		t.key = append(append(t.key, text...), separator)
	}
	for _, c := range t.columns {
		t.key = append(appendLabel(t.key, c.Value(record)), separator)
	}
	s := t.series[string(t.key)]
	if s == nil {
		s = t.begin()
	}
	s.seen, s.id = now, at.ContainerID
	for i, m := range t.measures {
		m.add(&s.amounts[i], record)
	}
}

// begin makes the series of t.key or, if there is no room, finds that of all others.
func (t *table) begin() *series {
	// One place is for those that find no room.
	full := len(t.series) >= t.limit-1
	if full {
		t.overflow++
		t.key = t.key[:0]
		for range 3 + len(t.columns) {
			t.key = append(append(t.key, other...), separator)
		}
		if s := t.series[string(t.key)]; s != nil {
			return s
		}
	}
	values := strings.Split(string(t.key[:len(t.key)-1]), string([]byte{separator}))
	s := &series{labels: append(slices.Clone(t.session), values...), amounts: make([]amount, len(t.measures)), rest: full}
	t.series[string(t.key)] = s
	return s
}

// appendLabel appends a value as it may be a label's: short, and safe to show.
func appendLabel(to []byte, v event.Value) []byte {
	v.Text = v.Text[:min(len(v.Text), maxLabel)]
	text := print.Escape(plain(v))
	if len(text) > maxLabel {
		text = strings.ToValidUTF8(text[:maxLabel], "")
	}
	return append(to, text...)
}

// expire drops the series of containers that are gone.
func (t *table) expire(now time.Time, alive func(id string) bool) {
	for key, s := range t.series {
		if s.id != "" && !s.rest && now.Sub(s.seen) >= silence && (alive == nil || !alive(s.id)) {
			delete(t.series, key)
		}
	}
}

func (t *table) collect() []prometheus.Metric {
	all := make([]prometheus.Metric, 0, len(t.series)*len(t.measures)+1)
	for _, s := range t.series {
		for i, m := range t.measures {
			all = append(all, m.metric(&s.amounts[i], s.labels))
		}
	}
	return append(all, prometheus.MustNewConstMetric(t.overflowDesc, prometheus.CounterValue, float64(t.overflow), t.session...))
}
