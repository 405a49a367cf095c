// SPDX-License-Identifier: Apache-2.0

package gadget

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMalformedObjectsAreRefused changes a real object as a careless or hostile
// author might. What is replaced has the same length, so that only its meaning
// changes, not where things are.
func TestMalformedObjectsAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, gadget, old, new, want string
	}{
		{"not a gadget", "trace_open", "gadget_license", "gadget_licensf", "not a gadget: it has no GADGET("},
		{"without BTF", "trace_open", ".BTF", ".BTX", "object has no BTF: build it with -g"},
		{"gadget's name in capitals", "trace_open", "gadget:trace_open", "gadget:Trace_open", `"Trace_open" is not of the form verb_noun`},
		{"gadget's name with an escape", "trace_open", "gadget:trace_open", "gadget:trace_\x1b[2m", `is not of the form verb_noun`},
		{"gadget's name of one word", "trace_open", "gadget:trace_open", "gadget:traceopens", `"traceopens" is not of the form verb_noun`},
		{"no description", "trace_open", "doc:show files", "dog:show files", "gadget trace_open has no description"},
		{"no source", "trace_open", "source:events", "sourse:events", "declares 0 sources of records, want exactly one of GADGET_EVENTS"},
		{"unknown source", "trace_open", "source:events", "source:eventz", `map gadget_events: unknown source "eventz"`},
		{"field without doc", "trace_open", "doc:file descriptor", "dog:file descriptor", "field fd: has no GADGET_DOC"},
		{"field's name in capitals", "trace_open", "\x00full_path\x00", "\x00Full_path\x00", `field name "Full_path" is not lower case with underscores`},
		{"field's name with an escape", "trace_open", "\x00full_path\x00", "\x00full\x1bpath\x00", `field name "full\x1bpath"`},
		{"width that isn't a number", "trace_open", "width:22", "width:2x", `field flags: width "2x" is not a number from 1 to 200`},
		{"width out of bounds", "trace_open", "width:22", "width:00", `field flags: width "00" is not a number from 1 to 200`},
		{"meaning for another kind", "trace_open", "type:open_flags", "type:args\x00flags", `field flags: type "args" doesn't go with a uint`},
		{"unknown meaning", "trace_open", "type:errno", "type:erRno", `field errno: type "erRno" doesn't go with a uint`},
		{"parameter without doc", "trace_open", "param:show calls", "parom:show calls", "parameter param_failed: is not declared by GADGET_PARAM"},
		{"parameter's name in capitals", "trace_open", "param_failed", "param_Failed", "parameter param_Failed: name is not lower case"},
		{"range upside down", "trace_signal", "range:0..64", "range:65..6", `range "65..6" is not min..max`},
		{"range without bounds", "trace_signal", "range:0..64", "range:0..xx", `range "0..xx" is not min..max`},
		{"range that the type can't hold", "trace_signal", "range:0..64", "range:-1..9", `range "-1..9" is wider than a uint of 4 bytes`},
		{"program without a hook", "trace_signal", "hook:signal/1/tp_btf", "hoop:signal/1/tp_btf", "program signal_tp_btf: has no GADGET_HOOK("},
		{"hook of two parts", "trace_signal", "hook:signal/1/tp_btf", "hook:signal/1-tp_btf", "has no GADGET_HOOK("},
		{"hook without group", "trace_signal", "hook:signal/1/tp_btf", "hook:/1/tp_btf_btf_x", "has no GADGET_HOOK("},
		{"rank that isn't a number", "trace_signal", "hook:signal/1/tp_btf", "hook:signal/x/tp_btf", `rank "x" is not a number from 1 to 99`},
		{"rank 0", "trace_signal", "hook:signal/1/tp_btf", "hook:signal/0/tp_btf", `rank "0" is not a number from 1 to 99`},
		{"two alternatives of one rank", "trace_signal", "hook:signal/1/tp_btf", "hook:signal/2/tp_btf", "group signal has rank 2 twice"},
		{"condition that isn't a parameter", "trace_exec", "when:failed", "when:fooled", "GADGET_WHEN(fooled): no boolean parameter of that name"},
		{"condition that isn't boolean", "trace_exec", "when:failed", "when:comm\x00d", "GADGET_WHEN(comm): no boolean parameter of that name"},
		{"error that quotes a line feed", "trace_signal", "source:events", "source:a\nb\x1bcd", `unknown source "a?b?cd"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := readObject(t, test.gadget, "x86_64")
			require.Len(t, test.new, len(test.old), "replacement")
			require.Contains(t, string(object), test.old)
			_, err := Parse(bytes.ReplaceAll(object, []byte(test.old), []byte(test.new)))
			require.ErrorContains(t, err, test.want)
			assertOneLine(t, err)
		})
	}
}

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	object := readObject(t, "trace_open", "x86_64")
	for _, test := range []struct {
		name string
		raw  []byte
	}{
		{"nothing", nil},
		{"empty", []byte{}},
		{"one byte", []byte{0x7f}},
		{"magic only", []byte("\x7fELF")},
		{"text", []byte("#!/bin/sh\necho not an object\n")},
		{"zeros", make([]byte, 4096)},
		{"ELF header only", object[:64]},
		{"first half", object[:len(object)/2]},
		{"last byte missing", object[:len(object)-1]},
		{"second half", object[len(object)/2:]},
		{"too large", append(bytes.Clone(object), make([]byte, MaxObjectSize)...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse(test.raw)
			require.Error(t, err)
			require.Nil(t, got)
			assertOneLine(t, err)
		})
	}
}

// TestEveryTruncationIsAnErrorOrASpec cuts an object everywhere in its headers
// and here and there in its sections.
func TestEveryTruncationIsAnErrorOrASpec(t *testing.T) {
	object := readObject(t, "trace_signal", "x86_64")
	for end := 0; end < len(object); end += 1 + end/16 {
		got, err := Parse(object[:end])
		require.Equal(t, err == nil, got != nil, "%d bytes", end)
		if err != nil {
			assertOneLine(t, err)
		}
	}
}

func assertOneLine(tb testing.TB, err error) {
	tb.Helper()
	text := err.Error()
	assert.NotEmpty(tb, text)
	assert.NotContains(tb, text, "\n")
	assert.NotContains(tb, text, "goroutine")
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			assert.Fail(tb, "error has control bytes", "%q", text)
			return
		}
	}
	assert.Equal(tb, strings.TrimSpace(text), text)
}
