// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"nodegadget.dev/pkg/gadget"
)

// FromSpec makes the message of a gadget's Spec.
func FromSpec(spec *gadget.Spec) *Gadget {
	g := &Gadget{Name: spec.Name, Description: spec.Description, Source: fromSource(&spec.Source)}
	for _, p := range spec.Params {
		g.Params = append(g.Params, &Param{
			Name: p.Name, Doc: p.Doc, Kind: uint32(p.Kind), List: p.List, Count: uint32(p.Count), Size: uint32(p.Size),
			Default: p.Default, Min: p.Min, Max: p.Max, Values: fromValues(p.Values),
		})
	}
	for _, group := range spec.Groups {
		out := &Group{Name: group.Name}
		for _, a := range group.Alternatives {
			alternative := &Alternative{Name: a.Name, Rank: uint32(a.Rank)}
			for _, p := range a.Programs {
				alternative.Programs = append(alternative.Programs,
					&Program{Name: p.Name, Section: p.Section, Optional: p.Optional, When: p.When, Helpers: p.Helpers})
			}
			out.Alternatives = append(out.Alternatives, alternative)
		}
		g.Groups = append(g.Groups, out)
	}
	return g
}

func fromSource(source *gadget.Source) *Source {
	s := &Source{Kind: uint32(source.Kind), Map: source.Map, Size: source.Size, KeySize: source.KeySize}
	for _, f := range source.Fields {
		s.Fields = append(s.Fields, &Field{
			Name: f.Name, Doc: f.Doc, Offset: f.Offset, Size: f.Size, Kind: uint32(f.Kind), Elem: f.Elem,
			Semantic: string(f.Semantic), Width: uint32(f.Width), Hidden: f.Hidden, Values: fromValues(f.Values),
		})
	}
	return s
}

func fromValues(values []gadget.EnumValue) []*EnumValue {
	var out []*EnumValue
	for _, v := range values {
		out = append(out, &EnumValue{Name: v.Name, Value: v.Value})
	}
	return out
}

// Spec is the gadget that the message describes. The peer may be newer, or
// hostile: what this side could not read safely is an error.
func (g *Gadget) Spec() (*gadget.Spec, error) {
	spec := &gadget.Spec{Name: g.GetName(), Description: g.GetDescription()}
	var err error
	if spec.Source, err = g.GetSource().source(); err != nil {
		return nil, fmt.Errorf("gadget %.64q: %w", g.GetName(), err)
	}
	for _, p := range g.GetParams() {
		if !validParam(p) {
			return nil, fmt.Errorf("gadget %.64q: parameter %.64q has %d values of %d bytes", g.GetName(), p.GetName(), p.GetCount(), p.GetSize())
		}
		spec.Params = append(spec.Params, gadget.Param{
			Name: p.GetName(), Doc: p.GetDoc(), Kind: gadget.Kind(p.GetKind()), List: p.GetList(), Count: int(p.GetCount()),
			Size: int(p.GetSize()), Default: p.GetDefault(), Min: p.GetMin(), Max: p.GetMax(), Values: toValues(p.GetValues()),
		})
	}
	for _, group := range g.GetGroups() {
		out := gadget.Group{Name: group.GetName()}
		for _, a := range group.GetAlternatives() {
			alternative := gadget.Alternative{Name: a.GetName(), Rank: int(a.GetRank())}
			for _, p := range a.GetPrograms() {
				alternative.Programs = append(alternative.Programs, gadget.Program{
					Name: p.GetName(), Section: p.GetSection(), Optional: p.GetOptional(), When: p.GetWhen(),
					Helpers: p.GetHelpers(),
				})
			}
			out.Alternatives = append(out.Alternatives, alternative)
		}
		spec.Groups = append(spec.Groups, out)
	}
	if err := spec.CheckNames(); err != nil {
		return nil, fmt.Errorf("gadget %.64q: %w", g.GetName(), err)
	}
	return spec, nil
}

func (s *Source) source() (gadget.Source, error) {
	source := gadget.Source{
		Kind: gadget.SourceKind(s.GetKind()), Map: s.GetMap(), Size: s.GetSize(), KeySize: s.GetKeySize(),
	}
	if len(s.GetFields()) > gadget.MaxFields {
		return source, fmt.Errorf("%d fields, at most %d are read", len(s.GetFields()), gadget.MaxFields)
	}
	for _, f := range s.GetFields() {
		if f.GetOffset() > gadget.MaxRecordSize || f.GetSize() > gadget.MaxRecordSize || !validElem(f) {
			return source, fmt.Errorf("field %.64q lies outside of any record", f.GetName())
		}
		source.Fields = append(source.Fields, gadget.Field{
			Name: f.GetName(), Doc: f.GetDoc(), Offset: f.GetOffset(), Size: f.GetSize(), Kind: gadget.Kind(f.GetKind()),
			Elem: f.GetElem(), Semantic: gadget.Semantic(f.GetSemantic()), Width: int(min(f.GetWidth(), 200)),
			Hidden: f.GetHidden(), Values: toValues(f.GetValues()),
		})
	}
	return source, nil
}

// validElem makes sure that a field has the size that its kind is read with.
func validElem(f *Field) bool {
	switch gadget.Kind(f.GetKind()) {
	case gadget.Slots:
		return (f.GetElem() == 4 || f.GetElem() == 8) && f.GetSize()%f.GetElem() == 0
	case gadget.Tail:
		return f.GetSize() == 4
	case gadget.IP:
		return f.GetSize() == 20
	case gadget.Bool:
		return f.GetSize() == 1
	case gadget.Uint, gadget.Int, gadget.Enum:
		return isWord(f.GetSize())
	}
	return f.GetSize() > 0
}

// validParam makes sure that encoding a value takes little memory, and that a
// number has as many bytes as numbers have.
func validParam(p *Param) bool {
	if p.GetSize() > gadget.MaxRecordSize || p.GetCount() > gadget.MaxListValues {
		return false
	}
	switch gadget.Kind(p.GetKind()) {
	case gadget.Bool:
		return p.GetSize() == 1
	case gadget.Uint, gadget.Int, gadget.Enum:
		return isWord(p.GetSize())
	}
	return true
}

func isWord(size uint32) bool { return size == 1 || size == 2 || size == 4 || size == 8 }

func toValues(values []*EnumValue) []gadget.EnumValue {
	var out []gadget.EnumValue
	for _, v := range values {
		out = append(out, gadget.EnumValue{Name: v.GetName(), Value: v.GetValue()})
	}
	return out
}
