// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/equality"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

// output is where a session's records go beside its stream.
type output struct {
	name string
	// spec is what it was made of.
	spec any
	// sink is nil if err says why there can't be one.
	sink   outputSink
	err    error
	cancel context.CancelFunc
	done   chan struct{}
}

// outputSink is a *sink.File, *sink.OTLP or *sink.Metrics.
type outputSink interface {
	Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error
	State() sink.State
}

// arrange makes the outputs those that the spec wants. Those that stay the same aren't
// disturbed.
func (r *recorder) arrange(ctx context.Context) {
	wanted := r.wantedOutputs()
	for _, o := range r.outputs {
		i := slices.IndexFunc(wanted, func(w *output) bool { return w.name == o.name && equality.Semantic.DeepEqual(w.spec, o.spec) })
		if i >= 0 {
			wanted[i] = o
			continue
		}
		o.stop()
	}
	for _, o := range wanted {
		if o.done == nil && o.sink != nil {
			o.start(ctx, r.header, r.tape.Read(tape.From{Live: true}))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outputs = wanted
}

// wantedOutputs are those of the spec; none of them runs.
func (r *recorder) wantedOutputs() []*output {
	id := sink.Session{Namespace: r.spec.Namespace, Name: r.spec.Name, UID: string(r.spec.UID)}
	limits := &r.sessions.limits
	spec := r.spec.Spec.Output
	var all []*output
	if file := spec.File; file != nil {
		o := &output{name: "file", spec: *file}
		if limits.Files == "" {
			o.err = errors.New("agents write no files in this cluster: an administrator can let them, with the chart's value agent.sessions.files.enabled")
		} else {
			opts := sink.FileOptions{Dir: limits.Files, Session: id, MaxFiles: int(file.MaxFiles)}
			if file.MaxSize != nil {
				opts.MaxBytes = file.MaxSize.Value()
			}
			o.sink = sink.NewFile(opts)
		}
		all = append(all, o)
	}
	if otlp := spec.OTLP; otlp != nil {
		o := &output{name: "otlp", spec: *otlp}
		if o.err = limits.allows(otlp); o.err == nil {
			o.sink = sink.NewOTLP(sink.OTLPOptions{
				Endpoint: otlp.Endpoint, Insecure: otlp.Insecure, CABundle: otlp.CABundle, Session: id,
			})
		}
		all = append(all, o)
	}
	if metrics := spec.Metrics; metrics != nil {
		all = append(all, &output{name: "metrics", spec: *metrics, sink: sink.NewMetrics(sink.MetricsOptions{
			Session: id, Labels: metrics.Labels, MaxSeries: int(metrics.MaxSeries), Alive: r.sessions.isAlive,
		})})
	}
	return all
}

// allows says whether sessions may send to an endpoint.
func (l *SessionLimits) allows(otlp *v1alpha1.OTLPOutput) error {
	host := strings.TrimPrefix(otlp.Endpoint, "https://")
	if len(l.Endpoints) == 0 || slices.Contains(l.Endpoints, host) {
		return nil
	}
	return fmt.Errorf("sessions may not send to %.100q: the agents' administrator allows %s", host, strings.Join(l.Endpoints, ", "))
}

// start lets the output take what is recorded from now on.
func (o *output) start(ctx context.Context, header *wire.Header, reader *tape.Reader) {
	// It ends when its session lets it go, not when the agent is asked to end.
	ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.done = make(chan struct{})
	go func() {
		defer close(o.done)
		// Its state says what is wrong.
		_ = o.sink.Run(ctx, header, reader)
	}()
}

// stop lets the output write what it has, for a moment.
func (o *output) stop() {
	if o.done == nil {
		return
	}
	o.cancel()
	<-o.done
}

// state is how the output is doing.
func (o *output) state() *wire.OutputState {
	s := &wire.OutputState{Name: o.name}
	err := o.err
	if o.sink != nil {
		state := o.sink.State()
		s.Written, s.Dropped = state.Written, state.Dropped
		err = state.Err
	}
	if err != nil {
		s.Error = oneLine(err.Error())
	}
	return s
}

// closeOutputs lets all outputs go.
func (r *recorder) closeOutputs() {
	r.mu.Lock()
	outputs := r.outputs
	r.outputs = nil
	r.mu.Unlock()
	for _, o := range outputs {
		o.stop()
	}
}

// collect collects the series that sessions make of records.
func (s *sessions) collect(out chan<- prometheus.Metric) {
	alive := map[string]bool{}
	if containers := s.agent.opts.Containers; containers != nil {
		for _, c := range containers.Containers() {
			alive[c.ID] = true
		}
	}
	s.alive.Store(&alive)
	// Of those of one name only one may have series: not one that is about to end.
	for _, r := range s.current() {
		r.mu.Lock()
		outputs := r.outputs
		r.mu.Unlock()
		for _, o := range outputs {
			if metrics, ok := o.sink.(*sink.Metrics); ok {
				metrics.Collect(out)
			}
		}
	}
}

// isAlive says whether a container ran when series were collected last.
func (s *sessions) isAlive(id string) bool {
	alive := s.alive.Load()
	return alive == nil || (*alive)[id]
}

// retention is what a session's tape keeps.
func (r *recorder) retention(header *wire.Header) tape.Options {
	return tape.Options{
		Records: retainRecords(&r.spec), Bytes: retainBytes(&r.spec), Clock: clockOf(header), Explain: r.sessions.agent.explain,
	}
}

// keepsStream says whether a session's records can be read: also if nothing is said of
// outputs.
func keepsStream(s *session.Session) bool {
	o := &s.Spec.Output
	return o.Stream != nil || o.File == nil && o.OTLP == nil && o.Metrics == nil
}

// failureReason is a word for why a session doesn't run on a node.
func failureReason(err error) string {
	switch {
	case isTypesError(err):
		return "NoBTF"
	case errors.Is(err, errUsage):
		return "InvalidSpec"
	case errors.Is(err, errUnsupported):
		return "Unsupported"
	case errors.Is(err, errOver):
		return "Ended"
	}
	return "NotLoaded"
}

// allowance says how many records a second a session shares with which others.
func (s *sessions) allowance(namespace string) string {
	node := fmt.Sprintf("all sessions of this node together may make %d records a second", s.limits.NodeRate)
	if namespace == "" {
		return node
	}
	return fmt.Sprintf("those of namespace %s together may make %d records a second on a node, and %s", namespace, s.limits.Rate, node)
}
