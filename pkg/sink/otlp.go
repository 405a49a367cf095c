// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"time"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"nodegadget.dev/pkg/tape"
	"nodegadget.dev/pkg/wire"
)

const (
	// A request has requestRecords or requestBytes at most, unless a single record is
	// larger: servers refuse more than 4 MiB. One that isn't full goes after flushInterval.
	requestRecords = 512
	requestBytes   = 1 << 20
	flushInterval  = time.Second
)

// OTLPOptions say to whom records are sent.
type OTLPOptions struct {
	Session Session
	// Endpoint is host:port or https://host:port. Required.
	Endpoint string
	// Insecure sends in the clear. Otherwise the server's certificate must be signed by
	// an authority in CABundle (PEM) or, if that is empty, by one of the system's.
	Insecure bool
	CABundle []byte
}

// OTLP sends records as OpenTelemetry logs over gRPC. The tape is its queue: beside it
// there is only the request under way.
type OTLP struct {
	progress
	opts OTLPOptions
}

// NewOTLP makes an output that sends to the endpoint. It connects to nothing before Run.
func NewOTLP(opts OTLPOptions) *OTLP { return &OTLP{opts: opts} }

// Name is what the output is called in a session's status.
func (o *OTLP) Name() string { return "otlp" }

// Run sends what the reader reads, until the tape or the context ends. An error means
// that it could not begin.
func (o *OTLP) Run(ctx context.Context, header *wire.Header, reader *tape.Reader) error {
	o.begin(reader)
	defer o.end()
	span := newSpan(ctx)
	defer span.cancel()
	logs, err := newLogs(header, o.opts.Session)
	if err != nil {
		return o.note(err)
	}
	to, err := dial(o.opts)
	if err != nil {
		return o.note(err)
	}
	defer to.close()
	s := sending{OTLP: o, span: span, reader: reader, logs: logs, to: to}
	return s.run()
}

// sending is a Run of an OTLP.
type sending struct {
	*OTLP
	span   *span
	reader *tape.Reader
	logs   *logs
	to     *collector
	// waiting are the records to be sent, size about their bytes.
	waiting []*logspb.LogRecord
	size    int
}

func (s *sending) run() error {
	for {
		err := s.gather()
		for len(s.waiting) > 0 && !s.span.over() {
			s.send(s.next())
		}
		s.count(0, len(s.waiting))
		if s.span.over() {
			return nil
		}
		if err != nil {
			return ended(err)
		}
	}
}

// gather waits for records until there are enough for a request, or the oldest has
// waited for long enough.
func (s *sending) gather() error {
	for len(s.waiting) == 0 {
		if err := s.read(s.span.ctx); err != nil || s.span.over() {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(s.span.ctx, flushInterval)
	defer cancel()
	for len(s.waiting) < requestRecords && s.size < requestBytes && !s.span.over() {
		err := s.read(ctx)
		if errors.Is(err, context.DeadlineExceeded) && s.span.ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read takes one message.
func (s *sending) read(ctx context.Context) error {
	message, err := s.reader.Next(ctx)
	if err != nil {
		return err
	}
	s.logs.explain(message.GetContainers())
	s.logs.each(message.GetBatch(), func(at, target *place, record []byte) {
		r := s.logs.record(at, target, record)
		s.waiting = append(s.waiting, r)
		s.size += proto.Size(r)
	})
	return nil
}

// next takes the records of one request from those that wait.
func (s *sending) next() []*logspb.LogRecord {
	size, n := 0, 0
	for n < len(s.waiting) && n < requestRecords {
		more := proto.Size(s.waiting[n])
		if n > 0 && size+more > requestBytes {
			break
		}
		size += more
		n++
	}
	records := s.waiting[:n:n]
	s.size -= size
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	return records
}

// send sends records, again and again if that may help.
func (s *sending) send(records []*logspb.LogRecord) {
	request := &collogspb.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{s.logs.around(records)}}
	retries := newRetries()
	for {
		rejected, wait, err := s.to.export(s.span.late, request)
		_ = s.note(err)
		if wait < 0 {
			rejected = min(rejected, len(records))
			s.count(len(records)-rejected, rejected)
			return
		}
		if !s.span.pause(max(wait, retries.NextBackOff())) {
			s.count(0, len(records))
			return
		}
	}
}
