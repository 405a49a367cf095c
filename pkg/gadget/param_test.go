// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

func TestEncodeWritesTheVariablesBytes(t *testing.T) {
	units := []EnumValue{{"us", 0}, {"ms", 1}, {"days", -1}}
	for _, test := range []struct {
		name  string
		param Param
		text  string
		want  []byte
	}{
		{"bool", Param{Kind: Bool, Size: 1}, "true", []byte{1}},
		{"bool as a digit", Param{Kind: Bool, Size: 1}, "0", []byte{0}},
		{"byte", Param{Kind: Uint, Size: 1}, "255", []byte{255}},
		{"short", Param{Kind: Uint, Size: 2}, "443", []byte{0xbb, 1}},
		{"word", Param{Kind: Uint, Size: 4}, "4294967295", []byte{255, 255, 255, 255}},
		{"hexadecimal", Param{Kind: Uint, Size: 4}, "0x1234", []byte{0x34, 0x12, 0, 0}},
		{"largest number", Param{Kind: Uint, Size: 8}, "18446744073709551615", []byte{255, 255, 255, 255, 255, 255, 255, 255}},
		{"negative byte", Param{Kind: Int, Size: 1}, "-128", []byte{0x80}},
		{"negative", Param{Kind: Int, Size: 4}, "-2", []byte{0xfe, 255, 255, 255}},
		{"smallest number", Param{Kind: Int, Size: 8}, "-9223372036854775808", []byte{0, 0, 0, 0, 0, 0, 0, 0x80}},
		{"lower end of the range", Param{Kind: Int, Size: 4, Min: -5, Max: 5}, "-5", []byte{0xfb, 255, 255, 255}},
		{"upper end of the range", Param{Kind: Uint, Size: 8, Min: 1, Max: 5}, "5", []byte{5, 0, 0, 0, 0, 0, 0, 0}},
		{"range that ends at 0", Param{Kind: Int, Size: 1, Min: -5}, "0", []byte{0}},
		{"enum", Param{Kind: Enum, Size: 4, Values: units}, "ms", []byte{1, 0, 0, 0}},
		{"enum in capitals", Param{Kind: Enum, Size: 4, Values: units}, "DAYS", []byte{255, 255, 255, 255}},
		{"text", Param{Kind: String, Size: 6}, "nginx", []byte("nginx\x00")},
		{"empty text", Param{Kind: String, Size: 3}, "", []byte{0, 0, 0}},
		{"text of bytes", Param{Kind: String, Size: 4}, "\xff\x01", []byte{0xff, 1, 0, 0}},
		{"list", Param{Kind: Uint, Size: 2, List: true, Count: 3}, "80,443", []byte{80, 0, 0xbb, 1, 0, 0}},
		{"full list", Param{Kind: Uint, Size: 1, List: true, Count: 3}, "1,2,3", []byte{1, 2, 3}},
		{"empty list", Param{Kind: Uint, Size: 2, List: true, Count: 2}, "", []byte{0, 0, 0, 0}},
		{"list of names", Param{Kind: Enum, Size: 1, List: true, Count: 2, Values: units}, "ms,us", []byte{1, 0}},
		{"list of texts", Param{Kind: String, Size: 3, List: true, Count: 3}, "a,bc", []byte("a\x00\x00bc\x00\x00\x00\x00")},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.param.Encode(test.text, binary.LittleEndian)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	big, err := Param{Kind: Uint, Size: 4}.Encode("1", binary.BigEndian)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 0, 1}, big)
}

// TestEncodeErrorsNameFlagGivenAndWanted: the text is all that a user sees.
func TestEncodeErrorsNameFlagGivenAndWanted(t *testing.T) {
	units := []EnumValue{{"us", 0}, {"ms", 1}}
	for _, test := range []struct {
		name  string
		param Param
		text  string
		want  string
	}{
		{"bool", Param{Kind: Bool, Size: 1}, "yes", `--p is "yes", want true or false`},
		{"empty bool", Param{Kind: Bool, Size: 1}, "", `--p is "", want true or false`},
		{"word for a number", Param{Kind: Uint, Size: 4}, "root", `--p is "root", want a number from 0 to 4294967295`},
		{"empty number", Param{Kind: Uint, Size: 4}, "", `--p is "", want a number from 0 to 4294967295`},
		{"fraction", Param{Kind: Uint, Size: 4}, "1.5", `--p is "1.5", want a number from 0 to 4294967295`},
		{"negative for unsigned", Param{Kind: Uint, Size: 4}, "-1", `--p is "-1", want a number from 0 to 4294967295`},
		{"too large for a byte", Param{Kind: Uint, Size: 1}, "256", `--p is "256", want a number from 0 to 255`},
		{"too large for a signed byte", Param{Kind: Int, Size: 1}, "128", `--p is "128", want a number from -128 to 127`},
		{"too large for a short", Param{Kind: Uint, Size: 2}, "65536", `want a number from 0 to 65535`},
		{"too large for a word", Param{Kind: Int, Size: 4}, "2147483648", `want a number from -2147483648 to 2147483647`},
		{"too large for anything", Param{Kind: Uint, Size: 8}, "18446744073709551616", `want a number from 0 to 18446744073709551615`},
		{"too large for signed", Param{Kind: Int, Size: 8}, "9223372036854775808", `want a number from -9223372036854775808 to 9223372036854775807`},
		{"below the range", Param{Kind: Uint, Size: 4, Min: 1, Max: 64}, "0", `--p is "0", want a number from 1 to 64`},
		{"above the range", Param{Kind: Uint, Size: 8, Min: 1, Max: 64}, "65", `--p is "65", want a number from 1 to 64`},
		{"unknown name", Param{Kind: Enum, Size: 4, Values: units}, "s", `--p is "s", want one of us, ms`},
		{"number for a name", Param{Kind: Enum, Size: 4, Values: units}, "1", `--p is "1", want one of us, ms`},
		{"long text", Param{Kind: String, Size: 4}, "four", `--p takes a text of at most 3 bytes, 4 given`},
		{"text with a zero", Param{Kind: String, Size: 8}, "a\x00b", `--p takes a text without zero bytes`},
		{"text for no room", Param{Kind: String}, "", `--p takes a text of at most`},
		{"long list", Param{Kind: Uint, Size: 2, List: true, Count: 2}, "1,2,3", `--p takes at most 2 values, 3 given`},
		{"bad value in a list", Param{Kind: Uint, Size: 2, List: true, Count: 2}, "1,x", `--p is "x", want a number from 0 to 65535`},
		{"comma at the end", Param{Kind: Uint, Size: 2, List: true, Count: 2}, "1,", `--p is "", want a number from 0 to 65535`},
		{"escapes are quoted", Param{Kind: Uint, Size: 4}, "\x1b[2J\n", `--p is "\x1b[2J\n", want a number`},
		{"kind of a newer agent", Param{Kind: 77, Size: 4}, "1", `--p is of a type that this program doesn't know`},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.param.Name = "p"
			got, err := test.param.Encode(test.text, binary.LittleEndian)
			require.Nil(t, got)
			require.ErrorContains(t, err, test.want)
			assertOneLine(t, err)
		})
	}
}

// variable is a global variable of an object.
func variable(name string, typ btf.Type, value []byte, tags ...string) *ebpf.VariableSpec {
	return &ebpf.VariableSpec{Name: name, Value: value, Type: &btf.Var{Name: name, Type: typ, Tags: tags}}
}

func TestParametersFollowFromVariables(t *testing.T) {
	const doc = "param:what it does"
	constant := &btf.Const{Type: &btf.Volatile{Type: u32}}
	for _, test := range []struct {
		name     string
		variable *ebpf.VariableSpec
		want     Param
	}{
		{"number", variable("param_pid", constant, []byte{7, 0, 0, 0}, doc), Param{Name: "pid", Kind: Uint, Size: 4, Default: "7"}},
		{"hyphens", variable("param_full_path", boole, []byte{1}, doc), Param{Name: "full-path", Kind: Bool, Size: 1, Default: "true"}},
		{"negative", variable("param_x", s32, []byte{255, 255, 255, 255}, doc), Param{Name: "x", Kind: Int, Size: 4, Default: "-1"}},
		{"large", variable("param_x", u64, []byte{255, 255, 255, 255, 255, 255, 255, 255}, doc), Param{Name: "x", Kind: Uint, Size: 8, Default: "18446744073709551615"}},
		{"range", variable("param_x", u32, make([]byte, 4), doc, "range:1..0x40"), Param{Name: "x", Kind: Uint, Size: 4, Default: "0", Min: 1, Max: 64}},
		{"text", variable("param_x", array(char, 4), []byte("ab\x00c"), doc), Param{Name: "x", Kind: String, Size: 4, Default: "ab"}},
		{"text with an escape", variable("param_x", array(char, 4), []byte("a\x1b\x00c"), doc), Param{Name: "x", Kind: String, Size: 4, Default: "a?"}},
		{"enum", variable("param_x", state, []byte{1, 0, 0, 0}, doc), Param{Name: "x", Kind: Enum, Size: 4, Default: "ON", Values: []EnumValue{{"OFF", 0}, {"ON", 1}}}},
		{"enum without name", variable("param_x", state, []byte{9, 0, 0, 0}, doc), Param{Name: "x", Kind: Enum, Size: 4, Default: "9", Values: []EnumValue{{"OFF", 0}, {"ON", 1}}}},
		{"list", variable("param_ports", array(u16, 16), make([]byte, 32), doc), Param{Name: "ports", Kind: Uint, Size: 2, List: true, Count: 16}},
		{"list of texts", variable("param_names", array(array(char, 8), 2), make([]byte, 16), doc), Param{Name: "names", Kind: String, Size: 8, List: true, Count: 2}},
		{"value of another size", variable("param_x", u32, []byte{1}, doc), Param{Name: "x", Kind: Uint, Size: 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseParams(&ebpf.CollectionSpec{
				ByteOrder: binary.LittleEndian,
				Variables: map[string]*ebpf.VariableSpec{
					"gadget_use_perf": variable("gadget_use_perf", boole, []byte{0}),
					"param_untyped":   {Name: "param_untyped"}, test.variable.Name: test.variable,
				},
			})
			require.NoError(t, err)
			test.want.Doc = "what it does"
			require.Equal(t, []Param{test.want}, got)
			require.Equal(t, test.variable.Name, got[0].Variable())
		})
	}
}

func TestParameterRules(t *testing.T) {
	const doc = "param:what it does"
	for _, test := range []struct {
		name     string
		variable *ebpf.VariableSpec
		want     string
	}{
		{"no doc", variable("param_x", u32, nil), "is not declared by GADGET_PARAM"},
		{"no name", variable("param_", u32, nil, doc), "name is not lower case"},
		{"odd name", variable("param_a=b", u32, nil, doc), "name is not lower case"},
		{"escape in the name", variable("param_a\x1b", u32, nil, doc), "name is not lower case"},
		{"struct", variable("param_x", ip, nil, doc), "a parameter can't be ip"},
		{"tail", variable("param_x", tail, nil, doc), "a parameter can't be bytes"},
		{"pointer", variable("param_x", &btf.Pointer{Target: u8}, nil, doc), "can't be a field"},
		{"128 bits", variable("param_x", u128, nil, doc), "integer of 16 bytes"},
		{"list of lists", variable("param_x", array(array(u32, 2), 2), nil, doc), "a parameter can't be slots"},
		{"list of nothing", variable("param_x", array(u32, 0), nil, doc), "list of 0 values"},
		{"endless list", variable("param_x", array(u32, 1025), nil, doc), "list of 1025 values"},
		{"range of one number", variable("param_x", u32, nil, doc, "range:5"), `range "5" is not min..max`},
		{"range of nothing", variable("param_x", u32, nil, doc, "range:0..0"), `range "0..0" is not min..max`},
		{"range upside down", variable("param_x", s32, nil, doc, "range:5..4"), `range "5..4" is not min..max`},
		{"range of a text", variable("param_x", array(char, 4), nil, doc, "range:1..4"), `range "1..4" doesn't go with a string`},
		{"range above the type", variable("param_x", u8, nil, doc, "range:0..256"), `range "0..256" is wider than a uint of 1 bytes`},
		{"range below the type", variable("param_x", u64, nil, doc, "range:-1..256"), `range "-1..256" is wider than a uint of 8 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseParams(&ebpf.CollectionSpec{
				ByteOrder: binary.LittleEndian, Variables: map[string]*ebpf.VariableSpec{test.variable.Name: test.variable},
			})
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestDefaultsEncodeToThemselves: what inspect shows can be given as a flag.
func TestDefaultsEncodeToThemselves(t *testing.T) {
	for _, name := range objectNames(t) {
		object := parseObject(t, name, "x86_64")
		require.NotEmpty(t, object.Spec.Params)
		for _, p := range object.Spec.Params {
			got, err := p.Encode(p.Default, object.Collection.ByteOrder)
			require.NoError(t, err, name)
			require.Equal(t, object.Collection.Variables[p.Variable()].Value, got, "%s --%s", name, p.Name)
		}
	}
}

func TestCheckParams(t *testing.T) {
	spec := &Spec{Name: "trace_x", Params: []Param{{Name: "pid", Kind: Uint, Size: 4}}}
	require.NoError(t, spec.CheckParams(nil))
	require.NoError(t, spec.CheckParams(map[string]string{"pid": "1"}))
	require.ErrorContains(t, spec.CheckParams(map[string]string{"pid": "x"}), `--pid is "x"`)
	require.EqualError(t, spec.CheckParams(map[string]string{"pod": "1"}), `gadget trace_x has no parameter "pod"`)
}

func FuzzParamEncode(f *testing.F) {
	for _, text := range []string{"", "0", "-1", "true", "80,443", "us", "nginx", "18446744073709551615", "0x7f", "a\x00", strings.Repeat(",", 2000)} {
		for kind := range uint8(10) {
			f.Add(kind, uint8(2), false, int64(0), int64(0), text)
			f.Add(kind, uint8(3), true, int64(-4), int64(64), text)
		}
	}
	f.Fuzz(func(t *testing.T, kind, size uint8, list bool, low, high int64, text string) {
		p := Param{Name: "p", Kind: Kind(kind % 10), Size: 1 << (size % 4), List: list, Count: 1 + int(size), Values: []EnumValue{{"us", 0}, {"ms", math.MaxInt64}}}
		if p.Kind == Bool {
			p.Size = 1
		}
		if low < high && (p.Kind == Int || p.Kind == Uint) {
			// What setRange refuses no parameter has.
			_ = p.setRange(fmt.Sprintf("%d..%d", low, high))
		}
		value, err := p.Encode(text, binary.LittleEndian)
		if err != nil {
			require.Nil(t, value)
			require.Contains(t, err.Error(), "--p ")
			assertOneLine(t, err)
			return
		}
		want := p.Size
		if p.List {
			want *= p.Count
		}
		require.Len(t, value, want)
		if p.List || p.Kind == Enum {
			return
		}
		// What was encoded reads back as what it means.
		again, err := p.Encode(p.decode(value, binary.LittleEndian), binary.LittleEndian)
		if p.Kind == String && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
			return
		}
		require.NoError(t, err)
		require.Equal(t, value, again)
	})
}
