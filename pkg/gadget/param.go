// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

const paramPrefix = "param_"

// MaxListValues bounds the values of one parameter.
const MaxListValues = 1024

var paramPattern = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Param is a constant of the gadget that a user may set before it is loaded.
type Param struct {
	// Name is the flag's name: the C name with hyphens.
	Name string
	Doc  string
	// Kind is Bool, Int, Uint, Enum or String.
	Kind Kind
	// List parameters take up to Count values of Kind, separated by commas.
	List  bool
	Count int
	// Size is the size in bytes of one value; of the whole array for String,
	// whose text may have Size-1 bytes.
	Size int
	// Default is the text of the value that the object has.
	Default string
	// Min and Max bound Int and Uint values; both are 0 where the type alone bounds them.
	Min, Max int64
	// Values are the allowed names of an Enum.
	Values []EnumValue
}

// Variable is the name of the C variable that holds the parameter.
func (p Param) Variable() string { return paramPrefix + strings.ReplaceAll(p.Name, "-", "_") }

func flagName(c string) string { return strings.ReplaceAll(c, "_", "-") }

func parseParams(collection *ebpf.CollectionSpec) ([]Param, error) {
	var params []Param
	for _, name := range sortedKeys(collection.Variables) {
		v := collection.Variables[name]
		if !strings.HasPrefix(name, paramPrefix) || v.Type == nil {
			continue
		}
		param, err := parseParam(v, collection.ByteOrder)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", name, err)
		}
		params = append(params, param)
	}
	slices.SortFunc(params, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	return params, nil
}

func parseParam(v *ebpf.VariableSpec, order binary.ByteOrder) (Param, error) {
	tags := parseTags(v.Type.Tags)
	param := Param{Name: flagName(strings.TrimPrefix(v.Name, paramPrefix)), Doc: tags.value("param")}
	if !paramPattern.MatchString(param.Name) {
		return Param{}, errors.New("name is not lower case with underscores")
	}
	if param.Doc == "" {
		return Param{}, errors.New("is not declared by GADGET_PARAM")
	}
	typ := underlying(v.Type.Type)
	if array, ok := typ.(*btf.Array); ok && !isChar(array.Type) {
		param.List, param.Count = true, int(array.Nelems)
		typ = array.Type
	}
	var field Field
	if err := field.setType(typ); err != nil {
		return Param{}, err
	}
	switch field.Kind {
	case Bool, Int, Uint, Enum, String:
	default:
		return Param{}, fmt.Errorf("a parameter can't be %s", field.Kind)
	}
	param.Kind, param.Size, param.Values = field.Kind, int(field.Size), field.Values
	if param.List && (param.Count < 1 || param.Count > MaxListValues) {
		return Param{}, fmt.Errorf("list of %d values", param.Count)
	}
	if r := tags.value("range"); r != "" {
		if err := param.setRange(r); err != nil {
			return Param{}, err
		}
	}
	if !param.List {
		param.Default = param.decode(v.Value, order)
	}
	return param, nil
}

func isChar(typ btf.Type) bool {
	t, ok := underlying(typ).(*btf.Int)
	return ok && t.Size == 1 && t.Name == "char"
}

func (p *Param) setRange(text string) error {
	low, high, _ := strings.Cut(text, "..")
	least, err1 := strconv.ParseInt(low, 0, 64)
	most, err2 := strconv.ParseInt(high, 0, 64)
	if err1 != nil || err2 != nil || least > most || (least == 0 && most == 0) {
		return fmt.Errorf("range %q is not min..max", text)
	}
	if p.Kind != Int && p.Kind != Uint {
		return fmt.Errorf("range %q doesn't go with a %s", text, p.Kind)
	}
	if first, last := p.bounds(); least < first || most > last {
		return fmt.Errorf("range %q is wider than a %s of %d bytes", text, p.Kind, p.Size)
	}
	p.Min, p.Max = least, most
	return nil
}

// decode turns the bytes of one value into text.
func (p *Param) decode(value []byte, order binary.ByteOrder) string {
	if p.Kind == String {
		text, _, _ := strings.Cut(string(value), "\x00")
		return clean(text)
	}
	if len(value) != p.Size {
		return ""
	}
	n := readInt(value, order, p.Kind != Uint)
	switch p.Kind {
	case Bool:
		return strconv.FormatBool(n != 0)
	case Enum:
		for _, v := range p.Values {
			if v.Value == n {
				return v.Name
			}
		}
	case Uint:
		return strconv.FormatUint(uint64(n), 10)
	}
	return strconv.FormatInt(n, 10)
}

func readInt(value []byte, order binary.ByteOrder, signed bool) int64 {
	switch len(value) {
	case 1:
		if signed {
			return int64(int8(value[0]))
		}
		return int64(value[0])
	case 2:
		if signed {
			return int64(int16(order.Uint16(value)))
		}
		return int64(order.Uint16(value))
	case 4:
		if signed {
			return int64(int32(order.Uint32(value)))
		}
		return int64(order.Uint32(value))
	case 8:
		return int64(order.Uint64(value))
	}
	return 0
}

// Encode checks text and turns it into the bytes of the C variable. Its errors
// name the parameter, what was given and what is allowed.
func (p Param) Encode(text string, order binary.ByteOrder) ([]byte, error) {
	texts := []string{text}
	if p.List {
		texts = strings.Split(text, ",")
		if text == "" {
			texts = nil
		}
		if len(texts) > p.Count {
			return nil, fmt.Errorf("--%s takes at most %d values, %d given", p.Name, p.Count, len(texts))
		}
	}
	var value []byte
	for _, t := range texts {
		one, err := p.encodeOne(t, order)
		if err != nil {
			return nil, err
		}
		value = append(value, one...)
	}
	if p.List {
		value = append(value, make([]byte, p.Count*p.Size-len(value))...)
	}
	return value, nil
}

func (p Param) encodeOne(text string, order binary.ByteOrder) ([]byte, error) {
	switch p.Kind {
	case String:
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("--%s takes a text without zero bytes, given: %q", p.Name, text)
		}
		if len(text) >= p.Size {
			return nil, fmt.Errorf("--%s takes a text of at most %d bytes, %d given", p.Name, p.Size-1, len(text))
		}
		return append([]byte(text), make([]byte, p.Size-len(text))...), nil
	case Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("--%s is %q, want true or false", p.Name, text)
		}
		if b {
			return []byte{1}, nil
		}
		return []byte{0}, nil
	case Enum:
		var names []string
		for _, v := range p.Values {
			if strings.EqualFold(v.Name, text) {
				return appendInt(nil, order, p.Size, v.Value), nil
			}
			names = append(names, v.Name)
		}
		return nil, fmt.Errorf("--%s is %q, want one of %s", p.Name, text, strings.Join(names, ", "))
	case Int, Uint:
		return p.encodeNumber(text, order)
	}
	return nil, fmt.Errorf("--%s is of a type that this program doesn't know: use one as new as the gadget", p.Name)
}

func (p Param) encodeNumber(text string, order binary.ByteOrder) ([]byte, error) {
	if p.Kind == Uint && p.Size == 8 && p.Max == 0 {
		u, err := strconv.ParseUint(text, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("--%s is %q, want a number from 0 to %d", p.Name, text, uint64(math.MaxUint64))
		}
		return appendInt(nil, order, 8, int64(u)), nil
	}
	low, high := p.bounds()
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < low || n > high {
		return nil, fmt.Errorf("--%s is %q, want a number from %d to %d", p.Name, text, low, high)
	}
	return appendInt(nil, order, p.Size, n), nil
}

func (p Param) bounds() (low, high int64) {
	if p.Min != 0 || p.Max != 0 {
		return p.Min, p.Max
	}
	bits := uint(p.Size * 8)
	switch {
	case p.Kind == Uint && bits < 64:
		return 0, 1<<bits - 1
	case p.Kind == Uint:
		return 0, math.MaxInt64
	}
	return -1 << (bits - 1), 1<<(bits-1) - 1
}

func appendInt(to []byte, order binary.ByteOrder, size int, n int64) []byte {
	var raw [8]byte
	switch size {
	case 1:
		raw[0] = byte(n)
	case 2:
		order.PutUint16(raw[:], uint16(n))
	case 4:
		order.PutUint32(raw[:], uint32(n))
	default:
		order.PutUint64(raw[:], uint64(n))
	}
	return append(to, raw[:size]...)
}
