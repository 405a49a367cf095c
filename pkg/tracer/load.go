// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"

	"nodegadget.dev/pkg/gadget"
)

// The variables and maps that gadget.h declares for the tracer.
const (
	usePerfVariable    = "gadget_use_perf"
	bufferVariable     = "gadget_buffer_bytes"
	budgetVariable     = "gadget_budget"
	filterVariable     = "gadget_filter_containers"
	cgroupsVariable    = "gadget_cgroup_v1"
	lostMap            = "gadget_lost"
	sharesMap          = "gadget_shares"
	excessesMap        = "gadget_excesses"
	containersMap      = "gadget_containers"
	tableMap           = "gadget_table"
	perfWatermarkShare = 4
)

// loader holds what is needed while a gadget is being loaded.
type loader struct {
	spec    gadget.Spec
	coll    *ebpf.CollectionSpec
	opts    Options
	cache   *btf.Cache
	maps    map[string]*ebpf.Map
	usePerf bool
	size    uint32
}

// newLoader prepares a copy of the object: parameters, buffer, maps. No program
// is loaded yet.
func newLoader(object *gadget.Object, opts Options) (*loader, error) {
	l := &loader{spec: object.Spec, coll: object.Collection.Copy(), opts: opts, cache: opts.Cache}
	if l.cache == nil {
		l.cache = btf.NewCache()
	}
	var err error
	if l.size, err = opts.bufferSize(); err != nil {
		return nil, err
	}
	if err := l.setParams(); err != nil {
		return nil, err
	}
	if err := l.prepareSource(); err != nil {
		return nil, err
	}
	// Only kernels before 5.11 charge maps to this limit. If it can't be lifted and
	// is too low, making the maps says what is needed.
	_ = rlimit.RemoveMemlock()
	if err := l.loadMaps(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *loader) setParams() error {
	if err := l.spec.CheckParams(l.opts.Params); err != nil {
		return err
	}
	for name, text := range l.opts.Params {
		param, _ := l.spec.Param(name)
		value, err := param.Encode(text, l.coll.ByteOrder)
		if err != nil {
			return err
		}
		if err := l.set(param.Variable(), value); err != nil {
			return err
		}
	}
	return nil
}

// set writes a variable of the object, if the object has it.
func (l *loader) set(variable string, value any) error {
	v, ok := l.coll.Variables[variable]
	if !ok {
		return nil
	}
	if err := v.Set(value); err != nil {
		return fmt.Errorf("setting %s: %w", variable, err)
	}
	return nil
}

// isSet says whether a boolean parameter is true in this run.
func (l *loader) isSet(param string) bool {
	p, ok := l.spec.Param(param)
	if !ok {
		return false
	}
	v := l.coll.Variables[p.Variable()]
	return v != nil && len(v.Value) > 0 && v.Value[0] != 0
}

// prepareSource turns the map that describes the source into one that the
// kernel takes: its key and value types are for Spec only.
func (l *loader) prepareSource() error {
	if err := l.set(filterVariable, l.opts.FilterContainers); err != nil {
		return err
	}
	if err := l.set(cgroupsVariable, uint8(l.opts.Cgroups)); err != nil {
		return err
	}
	if err := l.set(budgetVariable, l.opts.Budget); err != nil {
		return err
	}
	source := l.coll.Maps[l.spec.Source.Map]
	if l.spec.Source.Kind != gadget.Events {
		delete(l.coll.Maps, sharesMap)
		delete(l.coll.Maps, excessesMap)
	}
	switch l.spec.Source.Kind {
	case gadget.Snapshot:
		delete(l.coll.Maps, l.spec.Source.Map)
		return nil
	case gadget.Table:
		return nil
	}
	l.usePerf = l.opts.PerfBuffer || features.HaveMapType(ebpf.RingBuf) != nil
	source.Key, source.Value, source.KeySize, source.ValueSize = nil, nil, 0, 0
	source.MaxEntries = l.size
	if l.usePerf {
		source.Type, source.KeySize, source.ValueSize, source.MaxEntries = ebpf.PerfEventArray, 4, 4, 0
	}
	if err := l.set(usePerfVariable, l.usePerf); err != nil {
		return err
	}
	return l.set(bufferVariable, l.size)
}

func (l *loader) loadMaps() error {
	coll := l.coll.Copy()
	coll.Programs = nil
	loaded, err := ebpf.NewCollectionWithOptions(coll, ebpf.CollectionOptions{Cache: l.cache})
	if err != nil {
		return fmt.Errorf("making maps: %w", privilegeHint(err))
	}
	l.maps = loaded.Maps
	return nil
}

// loadProgram loads one program with the maps that exist already.
func (l *loader) loadProgram(name string) (*ebpf.Program, error) {
	coll := l.coll.Copy()
	coll.Programs = map[string]*ebpf.ProgramSpec{name: coll.Programs[name]}
	used := referencedMaps(coll.Programs[name])
	replacements := map[string]*ebpf.Map{}
	for name := range coll.Maps {
		if !slices.Contains(used, name) {
			delete(coll.Maps, name)
			continue
		}
		replacements[name] = l.maps[name]
		// The map is filled already; what it holds may be maps that aren't referenced.
		coll.Maps[name].Contents = nil
	}
	coll.Variables = nil
	loaded, err := ebpf.NewCollectionWithOptions(coll, ebpf.CollectionOptions{
		Programs:        ebpf.ProgramOptions{KernelTypes: l.opts.KernelTypes},
		MapReplacements: replacements,
		Cache:           l.cache,
	})
	if err != nil {
		return nil, fmt.Errorf("loading: %w", privilegeHint(err))
	}
	program := loaded.DetachProgram(name)
	loaded.Close()
	return program, nil
}

func referencedMaps(program *ebpf.ProgramSpec) []string {
	var names []string
	for i := range program.Instructions {
		if ins := &program.Instructions[i]; ins.IsLoadFromMap() && ins.Reference() != "" {
			names = append(names, ins.Reference())
		}
	}
	return names
}

func (l *loader) closeMaps(keep ...string) {
	for name, m := range l.maps {
		if !slices.Contains(keep, name) {
			m.Close()
			delete(l.maps, name)
		}
	}
}

// privilegeHint adds to a permission error what is needed.
func privilegeHint(err error) error {
	var verifier *ebpf.VerifierError
	if errors.Is(err, errPermission) && !errors.As(err, &verifier) {
		return fmt.Errorf("loading eBPF needs root, or CAP_BPF and CAP_PERFMON on Linux 5.8 and newer (before 5.11 also CAP_SYS_RESOURCE): %w", err)
	}
	return err
}
