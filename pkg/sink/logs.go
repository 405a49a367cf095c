// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// Attributes that no convention knows.
const (
	sessionName      = "nodegadget.session.name"
	sessionNamespace = "nodegadget.session.namespace"
)

// architectures are those of nodes as the conventions call them.
var architectures = map[string]string{
	"x86_64": semconv.HostArchAMD64.Value.AsString(), "arm64": semconv.HostArchARM64.Value.AsString(),
}

// identity are the attributes that say whose a record is. No field of a gadget can
// pass for one of them.
var identity = []string{
	sessionName, sessionNamespace, string(semconv.K8SNamespaceNameKey), string(semconv.K8SPodNameKey), string(semconv.K8SPodUIDKey),
	string(semconv.K8SContainerNameKey), string(semconv.ContainerIDKey), string(semconv.ContainerImageNameKey),
}

// logs turns records into those of OpenTelemetry.
type logs struct {
	*decoder
	resource *resourcepb.Resource
	scope    *commonpb.InstrumentationScope
	session  []*commonpb.KeyValue
	// time is the column of a record's time, nil if it has none. columns become
	// attributes, shown are those that people see. targets are the names of what is
	// known of the second process that records are about.
	time           *event.Column
	columns, shown []*event.Column
	targets        []string
	text           []byte
}

func newLogs(header *wire.Header, session Session) (*logs, error) {
	decoder, err := newDecoder(header)
	if err != nil {
		return nil, err
	}
	l := &logs{decoder: decoder, scope: &commonpb.InstrumentationScope{Name: decoder.spec.Name}}
	node := decoder.node
	l.resource = &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
		attribute(string(semconv.ServiceNameKey), "nodegadget"),
		attribute(string(semconv.K8SNodeNameKey), node.GetName()),
		attribute(string(semconv.HostNameKey), node.GetName()),
		attribute(string(semconv.OSTypeKey), semconv.OSTypeLinux.Value.AsString()),
	}}
	if arch := architectures[node.GetArch()]; arch != "" {
		l.resource.Attributes = append(l.resource.Attributes, attribute(string(semconv.HostArchKey), arch))
	}
	l.session = []*commonpb.KeyValue{attribute(sessionName, session.Name)}
	if session.Namespace != "" {
		l.session = append(l.session, attribute(sessionNamespace, session.Namespace))
	}
	for _, c := range decoder.schema.Columns {
		switch {
		case c.Kind == event.Time && c.Name == "timestamp":
			l.time = c
		case !slices.Contains(identity, c.Name):
			l.columns = append(l.columns, c)
			if !c.Raw && !c.Hidden {
				l.shown = append(l.shown, c)
			}
		}
	}
	// Before them are the names of what is known of the record's own container.
	own := len((&place{}).texts())
	l.targets = print.OriginNames(&decoder.spec.Source)[own:]
	return l, nil
}

// texts are what is known of a place, in the order of print.OriginNames.
func (p *place) texts() []string {
	return []string{p.Node, p.Namespace, p.Pod, p.Container, p.ContainerID, p.Image}
}

// around puts records into what says from where they are.
func (l *logs) around(records []*logspb.LogRecord) *logspb.ResourceLogs {
	return &logspb.ResourceLogs{
		Resource: l.resource, SchemaUrl: semconv.SchemaURL,
		ScopeLogs: []*logspb.ScopeLogs{{Scope: l.scope, LogRecords: records, SchemaUrl: semconv.SchemaURL}},
	}
}

// record makes a log record, whose body is one line for people.
func (l *logs) record(at, target *place, record []byte) *logspb.LogRecord {
	r := &logspb.LogRecord{
		ObservedTimeUnixNano: uint64(time.Now().UnixNano()),
		SeverityNumber:       logspb.SeverityNumber_SEVERITY_NUMBER_INFO,
		EventName:            l.spec.Name,
		Body:                 stringValue(l.line(record)),
		Attributes:           make([]*commonpb.KeyValue, 0, len(l.columns)+len(identity)),
	}
	if l.time != nil {
		if v := l.time.Value(record); v.Kind == event.Time {
			r.TimeUnixNano = uint64(v.Int())
		}
	}
	r.Attributes = append(r.Attributes, l.session...)
	r.Attributes = appendPlace(r.Attributes, at)
	for _, c := range l.columns {
		if v := c.Value(record); v.Kind != event.Null {
			r.Attributes = append(r.Attributes, &commonpb.KeyValue{Key: c.Name, Value: anyValue(v)})
		}
	}
	if target != nil {
		for i, text := range target.texts()[1:] {
			if i < len(l.targets) && text != "" {
				r.Attributes = append(r.Attributes, attribute(l.targets[i], text))
			}
		}
	}
	return r
}

func appendPlace(to []*commonpb.KeyValue, p *place) []*commonpb.KeyValue {
	for i, text := range []string{
		p.Namespace, p.Pod, p.container.GetPodUid(), p.Container, p.ContainerID, p.Image,
	} {
		if text != "" {
			to = append(to, attribute(identity[2+i], text))
		}
	}
	return to
}

// line is name=value of what people see.
func (l *logs) line(record []byte) string {
	l.text = l.text[:0]
	for _, c := range l.shown {
		v := c.Value(record)
		if v.Kind == event.Null || v.Kind == event.Slots || v.Kind == event.Text && len(v.Text) == 0 {
			continue
		}
		if len(l.text) > 0 {
			l.text = append(l.text, ' ')
		}
		l.text = append(append(l.text, c.Name...), '=')
		l.text = append(l.text, word(plain(v))...)
	}
	return string(l.text)
}

// word is a text that can be told from the next one, and is safe to show.
func word(text string) string {
	shown := print.Escape(text)
	if shown != text || strings.ContainsAny(text, ` "=`) {
		return `"` + strings.ReplaceAll(shown, `"`, `\"`) + `"`
	}
	return text
}

// plain is a value as a text.
func plain(v event.Value) string {
	switch v.Kind {
	case event.Int:
		return strconv.FormatInt(v.Int(), 10)
	case event.Uint:
		return strconv.FormatUint(v.Uint(), 10)
	case event.Bool:
		return strconv.FormatBool(v.Uint() != 0)
	case event.Time:
		return time.Unix(0, v.Int()).UTC().Format(time.RFC3339Nano)
	case event.List:
		var words []string
		for item := range v.Items() {
			words = append(words, string(item))
		}
		return strings.Join(words, " ")
	}
	return string(v.Text)
}

func attribute(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: stringValue(value)}
}

// stringValue is a text, in which what isn't UTF-8 is replaced: it could not be sent.
func stringValue(text string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: strings.ToValidUTF8(text, "\ufffd")}}
}

func intValue(n int64) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: n}}
}

// unsignedValue is a number, or its text if OTLP has no such number.
func unsignedValue(n uint64) *commonpb.AnyValue {
	if n > math.MaxInt64 {
		return stringValue(strconv.FormatUint(n, 10))
	}
	return intValue(int64(n))
}

func anyValue(v event.Value) *commonpb.AnyValue {
	var items []*commonpb.AnyValue
	switch v.Kind {
	case event.Int:
		return intValue(v.Int())
	case event.Uint:
		return unsignedValue(v.Uint())
	case event.Bool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v.Uint() != 0}}
	case event.List:
		for item := range v.Items() {
			items = append(items, stringValue(string(item)))
		}
	case event.Slots:
		for i := range v.Len() {
			items = append(items, unsignedValue(v.Slot(i)))
		}
	default:
		return stringValue(plain(v))
	}
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{Values: items}}}
}
