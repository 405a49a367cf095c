// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/wire"
)

// byteOrder is that of all architectures that gadgets are built for. Checking a
// parameter needs one; the agent encodes it anew.
var byteOrder = binary.LittleEndian

// runOptions are the flags of a run.
type runOptions struct {
	// spec is the gadget as its command knows it.
	spec *gadget.Spec
	target
	selection    selection
	output       string
	fields       []string
	filter       string
	sort         []string
	maxEntries   int
	interval     time.Duration
	timeout      time.Duration
	maxEvents    uint64
	bufferSize   uint64
	perfBuffer   bool
	failOnLoss   bool
	alternatives map[string]string
	verbose      bool
	params       map[string]*pflag.Flag
	detached     detached
	// attach is the trace session that is read instead of running something. Tail is
	// how many of the last records are wanted of all nodes; negative: all. The filter is
	// then applied here, and nothing is what is said if no node has anything.
	attach  *wire.Attach
	tail    int64
	nothing string

	mode    print.Mode
	changed map[string]string
	// selector says whose records are wanted; nil for those of the whole machine.
	selector *wire.Selector
}

// complete checks what can be checked without an agent.
func (o *runOptions) complete(flags *pflag.FlagSet) error {
	if err := o.target.check(); err != nil {
		return err
	}
	var err error
	if o.mode, err = print.ParseMode(o.output); err != nil && !o.detached.names(o.output) {
		return usagef("--output: %v", err)
	}
	if o.timeout < 0 || o.interval < 0 || o.maxEntries < 0 {
		return usagef("--timeout, --interval and --max-entries can't be negative")
	}
	if err := o.checkFields(); err != nil {
		return err
	}
	o.changed = map[string]string{}
	for name, flag := range o.params {
		if flags.Changed(name) {
			o.changed[name] = flag.Value.String()
		}
	}
	if err := o.spec.CheckAlternatives(o.alternatives); err != nil {
		return usagef("%v", err)
	}
	if err := o.selection.check(o); err != nil {
		return err
	}
	return o.detached.check(o, flags)
}

// checkFields makes sure that the gadget has the fields that are asked for.
func (o *runOptions) checkFields() error {
	schema := event.NewSchema(o.spec.Source, event.Options{})
	for _, name := range o.sort {
		if _, err := schema.Column(strings.TrimPrefix(name, "-")); err != nil {
			return usagef("--sort: %v", err)
		}
	}
	if _, err := print.New(nil, schema, print.Options{Mode: o.mode, Fields: o.fields}); err != nil {
		return usagef("--fields: %v", err)
	}
	if o.filter != "" {
		if _, err := event.CompileFilter(schema, o.filter); err != nil {
			return usagef("--%v", err)
		}
	}
	return nil
}

// reads says whether a trace session is read that somebody has made before, and not the
// run's own.
func (o *runOptions) reads() bool { return o.attach != nil && !o.attach.GetOwner() }

func (o *runOptions) start() *wire.Start {
	if o.attach != nil {
		return &wire.Start{Attach: o.attach, Nodes: o.selection.nodes}
	}
	return &wire.Start{
		Gadget: o.spec.Name, Params: o.changed, Filter: o.filter, BufferSize: o.bufferSize,
		Interval: int64(o.interval), Verbose: o.verbose, PerfBuffer: o.perfBuffer, Alternatives: o.alternatives,
		Selector: o.selector, Nodes: o.selection.nodes,
	}
}

func fieldNames(spec *gadget.Spec) []string {
	names := event.NewSchema(spec.Source, event.Options{}).Names()
	for i := range names {
		names[i] = print.Escape(names[i])
	}
	return names
}

// byteSize is a flag for a number of bytes, with the suffixes Ki, Mi and Gi.
type byteSize uint64

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(*b), 10)
}

func (b *byteSize) Type() string { return "bytes" }

func (b *byteSize) Set(text string) error {
	number, shift := text, 0
	for suffix, bits := range map[string]int{"Ki": 10, "Mi": 20, "Gi": 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, shift = rest, bits
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return fmt.Errorf("size %q is not a number of bytes, such as 65536, 512Ki or 4Mi", text)
	}
	*b = byteSize(n << shift)
	return nil
}
