// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/gadget"
)

func spec(t testing.TB, name string) *gadget.Spec {
	t.Helper()
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "x86_64")
	require.NoError(t, err)
	object, err := catalog.Object(name)
	require.NoError(t, err)
	return &object.Spec
}

func texts(problems []Problem) (all []string) {
	for _, p := range problems {
		all = append(all, p.String())
	}
	return all
}

// TestCheck: each problem names its field and what is allowed there.
func TestCheck(t *testing.T) {
	quantity := func(text string) *resource.Quantity {
		q := resource.MustParse(text)
		return &q
	}
	for _, test := range []struct {
		name, gadget string
		spec         v1alpha1.SessionSpec
		want         []string
	}{
		{"nothing", "trace_exec", v1alpha1.SessionSpec{}, nil},
		{"all right", "trace_exec", v1alpha1.SessionSpec{
			Params: map[string]string{"failed": "true"}, Filter: `uid == 0 && comm.startsWith("s")`, BufferSize: quantity("256Mi"),
			Output: v1alpha1.Output{Metrics: &v1alpha1.MetricsOutput{Labels: []string{"comm"}}},
		}, nil},
		{"params", "trace_exec", v1alpha1.SessionSpec{Params: map[string]string{"failed": "perhaps", "tid": "-1", "nope": "1"}}, []string{
			`spec.params[failed]: is "perhaps", want true or false`,
			`spec.params[nope]: gadget trace_exec has no such parameter, it has: `,
			`spec.params[tid]: is "-1", want a number from `,
		}},
		{"a filter", "trace_exec", v1alpha1.SessionSpec{Filter: "nope == 1"}, []string{`spec.filter: unknown field "nope", known are: `}},
		{"a filter that is a number", "trace_exec", v1alpha1.SessionSpec{Filter: "uid"}, []string{`spec.filter: filter "uid" gives a int, want true or false`}},
		{"a filter that is too long", "trace_exec", v1alpha1.SessionSpec{Filter: strings.Repeat(" ", 5000)}, []string{`spec.filter: filter has 5000 bytes, at most 4096 are allowed`}},
		{"an interval of events", "trace_exec", v1alpha1.SessionSpec{Interval: &metav1.Duration{Duration: time.Second}}, []string{"spec.interval: gadget trace_exec reports events"}},
		{"an interval", "top_syscall", v1alpha1.SessionSpec{Interval: &metav1.Duration{Duration: time.Second}}, nil},
		{"a short interval", "top_syscall", v1alpha1.SessionSpec{Interval: &metav1.Duration{Duration: time.Millisecond}}, []string{"spec.interval: is 1ms, want at least 10ms"}},
		{"a big buffer", "trace_exec", v1alpha1.SessionSpec{BufferSize: quantity("1Gi")}, []string{"spec.bufferSize: is 1Gi, want more than 0 and at most 256Mi"}},
		{"no buffer", "trace_exec", v1alpha1.SessionSpec{BufferSize: quantity("0")}, []string{"spec.bufferSize: is 0, want"}},
		{"labels", "trace_exec", v1alpha1.SessionSpec{Output: v1alpha1.Output{Metrics: &v1alpha1.MetricsOutput{Labels: []string{"comm", "nope"}}}}, []string{`spec.output.metrics.labels[1]: unknown field "nope", known are: `}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := Session{Spec: test.spec}
			got := texts(Check(&s, spec(t, test.gadget)))
			require.Len(t, got, len(test.want), got)
			for i, want := range test.want {
				require.Contains(t, got[i], want)
			}
		})
	}
}

func TestCheckManyParams(t *testing.T) {
	s := Session{Spec: v1alpha1.SessionSpec{Params: map[string]string{}}}
	for i := range 65 {
		s.Spec.Params[strings.Repeat("p", i+1)] = ""
	}
	require.Equal(t, []string{"spec.params: 65 parameters, at most 64 are taken"}, texts(Check(&s, spec(t, "trace_exec"))))
}

// TestCheckIdentity: what can't be told apart by container can't be shown to a namespace.
func TestCheckIdentity(t *testing.T) {
	g := &gadget.Spec{Name: "trace_x", Source: gadget.Source{Kind: gadget.Events, Fields: []gadget.Field{{Name: "n", Kind: gadget.Uint, Size: 4}}}}
	require.Equal(t, []string{
		"spec.params[a]: gadget trace_x has no parameters",
		"spec.gadget.name: records of gadget trace_x don't say whose they are, so that no session can have them",
	}, texts(Check(&Session{Spec: v1alpha1.SessionSpec{Params: map[string]string{"a": ""}}}, g)))
}

// TestEveryGadgetCanBeASession.
func TestEveryGadgetCanBeASession(t *testing.T) {
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "x86_64")
	require.NoError(t, err)
	for _, name := range catalog.Names() {
		require.Empty(t, Check(&Session{}, spec(t, name)), name)
	}
}
