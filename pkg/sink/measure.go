// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
)

// metricPrefix begins the names of all metrics of sessions.
const metricPrefix = "nodegadget_session_"

// maxSlots is how many slots a log2 histogram of 64 bit numbers can have.
const maxSlots = 64

// measure is one metric: the number of records, the sum of a column, or a histogram.
// The help of all sessions' metrics of one name must be the same, or none is collected.
type measure struct {
	name, help string
	// column is nil where records are counted.
	column    *event.Column
	histogram bool
	// scale is what one of the column's numbers is in the metric's unit, unless unit says
	// which of units it is.
	scale float64
	unit  *event.Column
	units map[string]float64
	desc  *prometheus.Desc
}

// Units that a column called unit may name, by the metric's unit.
var (
	seconds = map[string]float64{"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1}
	octets  = map[string]float64{"bytes": 1, "kib": 1 << 10, "mib": 1 << 20}
)

// extremes are names of numbers that can't be added.
var extremes = []string{"max", "min", "avg"}

// newMeasures says what of a gadget's records is added up.
func newMeasures(spec *gadget.Spec, schema *event.Schema) ([]*measure, error) {
	switch spec.Source.Kind {
	case gadget.Events:
		return []*measure{{name: metricPrefix + "events_total", help: "Records of a trace session.", scale: 1}}, nil
	case gadget.Snapshot:
		return nil, errors.New("a snapshot has nothing to add up")
	}
	var all []*measure
	for _, c := range schema.Columns {
		m := newMeasure(spec, schema, c)
		// Names that differ by a dot only would be one metric.
		if m != nil && !slices.ContainsFunc(all, func(other *measure) bool { return other.name == m.name }) {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the table has nothing to add up")
	}
	return all, nil
}

// newMeasure is nil for a column that isn't added up.
func newMeasure(spec *gadget.Spec, schema *event.Schema, c *event.Column) *measure {
	m := &measure{name: metricPrefix + spec.Name + "_" + labelName(c.Name), column: c, scale: 1}
	switch {
	case c.Kind == event.Slots && c.Semantic == gadget.Log2:
		m.histogram, m.help = true, "Histogram of a trace session; its sum is estimated."
		m.setUnit(schema)
	case !isCount(&spec.Source, c):
		return nil
	case c.Semantic == gadget.Duration:
		m.name, m.scale = m.name+"_seconds", 1e-9
	case c.Semantic == gadget.ByteCount:
		m.name += "_bytes"
	}
	if !m.histogram {
		m.name, m.help = m.name+"_total", "Sum over the rows of a trace session."
	}
	return m
}

// isCount says whether a column of a table can be added up.
func isCount(source *gadget.Source, c *event.Column) bool {
	const aligned = 8
	offset, size, ok := c.Place()
	if !ok || c.Kind != event.Uint || size != 8 || offset < int(source.KeySize+aligned-1)&^(aligned-1) {
		return false
	}
	last := c.Name[strings.LastIndexByte(c.Name, '.')+1:]
	first, _, _ := strings.Cut(last, "_")
	return !slices.Contains(extremes, first) && slices.Contains([]gadget.Semantic{"", gadget.Duration, gadget.ByteCount}, c.Semantic)
}

// setUnit finds the column that says what the numbers of slots mean.
func (m *measure) setUnit(schema *event.Schema) {
	i := slices.IndexFunc(schema.Source.Fields, func(f gadget.Field) bool { return f.Name == "unit" && f.Kind == gadget.Enum })
	if i < 0 {
		return
	}
	for suffix, units := range map[string]map[string]float64{"_seconds": seconds, "_bytes": octets} {
		unknown := slices.ContainsFunc(schema.Source.Fields[i].Values, func(v gadget.EnumValue) bool { return units[strings.ToLower(v.Name)] == 0 })
		if unit, err := schema.Column("unit"); err == nil && !unknown {
			m.name, m.unit, m.units = m.name+suffix, unit, units
			return
		}
	}
}

// scaleOf is the scale of a record's slots.
func (m *measure) scaleOf(record []byte) float64 {
	if m.unit == nil {
		return m.scale
	}
	if scale := m.units[strings.ToLower(string(m.unit.Value(record).Text))]; scale > 0 {
		return scale
	}
	return m.scale
}

// amount is what a series has of a measure.
type amount struct {
	sum   uint64
	slots []uint64
	scale float64
}

// add adds a record.
func (m *measure) add(to *amount, record []byte) {
	switch {
	case m.column == nil:
		to.sum++
	case !m.histogram:
		to.sum += m.column.Value(record).Uint()
	default:
		if v := m.column.Value(record); v.Len() > 0 {
			to.addSlots(v)
			to.scale = m.scaleOf(record)
		}
	}
}

func (a *amount) addSlots(v event.Value) {
	if a.slots == nil {
		a.slots = make([]uint64, min(v.Len(), maxSlots))
	}
	for i := range v.Len() {
		a.slots[min(i, len(a.slots)-1)] += v.Slot(i)
	}
}

// metric is what Prometheus collects.
func (m *measure) metric(of *amount, labels []string) prometheus.Metric {
	if !m.histogram {
		return prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(of.sum)*m.scale, labels...)
	}
	// Slot i counts from 2^i to less than 2^(i+1), the first also what is 0, and the last
	// all that is larger.
	buckets, count, sum := map[float64]uint64{}, uint64(0), 0.0
	for i, n := range of.slots {
		count += n
		sum += float64(n) * math.Ldexp(1.5, i)
		if i < len(of.slots)-1 {
			buckets[math.Ldexp(of.scale, i+1)] = count
		}
	}
	return prometheus.MustNewConstHistogram(m.desc, count, sum*of.scale, buckets, labels...)
}
