// SPDX-License-Identifier: Apache-2.0

package session

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

var created = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func object() *v1alpha1.TraceSession {
	s := &v1alpha1.TraceSession{}
	s.Namespace, s.Name, s.UID, s.Generation = "shop", "carts", "u1", 3
	s.CreationTimestamp = metav1.NewTime(created)
	s.Spec.Gadget.Name = "trace_exec"
	return s
}

func clusterObject() *v1alpha1.ClusterTraceSession {
	s := &v1alpha1.ClusterTraceSession{}
	s.Name, s.UID, s.Generation = "all", "u2", 1
	s.CreationTimestamp = metav1.NewTime(created)
	s.Spec.Gadget.Name = "trace_exec"
	return s
}

func selects(matchLabels map[string]string, expressions ...metav1.LabelSelectorRequirement) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: matchLabels, MatchExpressions: expressions}
}

func expression(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: values}
}

// TestSelection: what is selected becomes what agents take.
func TestSelection(t *testing.T) {
	for _, test := range []struct {
		name string
		spec v1alpha1.PodSelection
		want *wire.Selector
	}{
		{"nothing said", v1alpha1.PodSelection{}, &wire.Selector{}},
		{"an empty label selector", v1alpha1.PodSelection{PodSelector: selects(nil)}, &wire.Selector{}},
		{"labels", v1alpha1.PodSelection{PodSelector: selects(map[string]string{"app": "cart", "a/b": ""})}, &wire.Selector{Labels: "a/b=,app=cart"}},
		{"expressions", v1alpha1.PodSelection{PodSelector: selects(nil,
			expression("a", metav1.LabelSelectorOpIn, "x", "y"), expression("b", metav1.LabelSelectorOpNotIn, "z"),
			expression("c", metav1.LabelSelectorOpExists), expression("d", metav1.LabelSelectorOpDoesNotExist),
		)}, &wire.Selector{Labels: "a in (x,y),b notin (z),c,!d"}},
		{"names", v1alpha1.PodSelection{PodNames: []string{"p"}, ContainerNames: []string{"web", "db"}}, &wire.Selector{Pods: []string{"p"}, Containers: []string{"web", "db"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := object()
			o.Spec.Selector = test.spec
			s, err := Of(o)
			require.NoError(t, err)
			want := proto.CloneOf(test.want)
			want.Namespaces = []string{"shop"}
			require.True(t, proto.Equal(want, s.Selector), s.Selector)
			_, err = labels.Parse(s.Selector.GetLabels())
			require.NoError(t, err)

			c := clusterObject()
			c.Spec.Selector.PodSelection = test.spec
			s, err = OfCluster(c)
			require.NoError(t, err)
			require.True(t, proto.Equal(test.want, s.Selector), s.Selector)
		})
	}
}

func TestSelectionsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		spec v1alpha1.ClusterSelection
		want string
	}{
		{"an operator that isn't", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodSelector: selects(nil, expression("a", "Like", "x"))}}, `"Like" is not a valid label selector operator`},
		{"no values", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodSelector: selects(nil, expression("a", metav1.LabelSelectorOpIn))}}, "values set can't be empty"},
		{"a value that would add a requirement", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodSelector: selects(map[string]string{"a": "b,c=d"})}}, "valid label"},
		{"a key that would remove one", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodSelector: selects(map[string]string{"!a": "b"})}}, "name part must consist of"},
		{"an empty pod", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodNames: []string{""}}}, "spec.selector.podNames: an empty name"},
		{"an empty container", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{ContainerNames: []string{"a", ""}}}, "spec.selector.containerNames: an empty name"},
		{"many pods", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodNames: make([]string, 1025)}}, "1025 names, at most 1024"},
		{"an empty namespace", v1alpha1.ClusterSelection{Namespaces: []string{""}}, "spec.selector.namespaces: an empty name"},
		{"an empty node", v1alpha1.ClusterSelection{NodeNames: []string{""}}, "spec.selector.nodeNames: an empty name"},
		{"a long label selector", v1alpha1.ClusterSelection{PodSelection: v1alpha1.PodSelection{PodSelector: selects(nil, longExpressions()...)}}, "bytes as text"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := clusterObject()
			c.Spec.Selector = test.spec
			_, err := OfCluster(c)
			require.ErrorContains(t, err, test.want)
		})
	}
	o := object()
	o.Namespace = ""
	_, err := Of(o)
	require.ErrorContains(t, err, "without a namespace")
}

func longExpressions() (all []metav1.LabelSelectorRequirement) {
	for range 100 {
		all = append(all, expression("key", metav1.LabelSelectorOpIn, strings.Repeat("v", 60)))
	}
	return all
}

// TestTraceSessionsSeeTheirNamespaceOnly, also one that was tampered with after it was
// read, or never came from an object.
func TestTraceSessionsSeeTheirNamespaceOnly(t *testing.T) {
	read, err := Of(object())
	require.NoError(t, err)
	for _, test := range []struct {
		name   string
		tamper func(*Session)
	}{
		{"untouched", func(*Session) {}},
		{"another namespace", func(s *Session) { s.Selector.Namespaces = []string{"kube-system"} }},
		{"one more namespace", func(s *Session) { s.Selector.Namespaces = append(s.Selector.Namespaces, "kube-system") }},
		{"all namespaces", func(s *Session) { s.Selector.Namespaces = nil }},
		{"the host", func(s *Session) { s.Selector.Host = true }},
		{"no selector", func(s *Session) { s.Selector = nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := read
			s.Selector = proto.CloneOf(read.Selector)
			test.tamper(&s)
			got := s.Start().GetSelector()
			require.Equal(t, []string{"shop"}, got.GetNamespaces())
			require.False(t, got.GetHost())
		})
	}
}

// TestSelectorsAreNeverMissing: without one, agents trace the whole machine.
func TestSelectorsAreNeverMissing(t *testing.T) {
	require.NotNil(t, (&Session{}).Start().GetSelector())
	s, err := OfCluster(clusterObject())
	require.NoError(t, err)
	require.True(t, proto.Equal(&wire.Selector{}, s.Start().GetSelector()))
	c := clusterObject()
	c.Namespace = "shop" // it can't have one
	s, err = OfCluster(c)
	require.NoError(t, err)
	require.Empty(t, s.Namespace)
}

func TestClusterSelection(t *testing.T) {
	c := clusterObject()
	c.Spec.Selector = v1alpha1.ClusterSelection{Namespaces: []string{"a", "b"}, NodeNames: []string{"n1"}, Host: true}
	s, err := OfCluster(c)
	require.NoError(t, err)
	require.True(t, proto.Equal(&wire.Selector{Namespaces: []string{"a", "b"}, Host: true}, s.Start().GetSelector()))
	require.True(t, s.On("n1"))
	require.False(t, s.On("n2"))
	everywhere, err := Of(object())
	require.NoError(t, err)
	require.True(t, everywhere.On("n2"))
}

func TestStart(t *testing.T) {
	o := object()
	size := resource.MustParse("2Mi")
	o.Spec.SessionSpec = v1alpha1.SessionSpec{
		Gadget: v1alpha1.GadgetRef{Name: "top_syscall"}, Params: map[string]string{"failed": "true"}, Filter: "uid == 0",
		Interval: &metav1.Duration{Duration: 5 * time.Second}, BufferSize: &size,
	}
	s, err := Of(o)
	require.NoError(t, err)
	start := s.Start()
	require.True(t, proto.Equal(&wire.Start{
		Protocol: wire.Current(), Gadget: "top_syscall", Params: map[string]string{"failed": "true"}, Filter: "uid == 0",
		Interval: int64(5 * time.Second), BufferSize: 2 << 20, Selector: &wire.Selector{Namespaces: []string{"shop"}},
	}, start), start)
	start.Params["failed"] = "false"
	start.Selector.Namespaces[0] = "kube-system"
	o.Spec.Params["failed"] = "perhaps"
	require.Equal(t, "true", s.Start().Params["failed"])
	require.Equal(t, []string{"shop"}, s.Start().GetSelector().GetNamespaces())

	negative := resource.MustParse("-1")
	s.Spec.BufferSize = &negative
	require.Zero(t, s.Start().GetBufferSize())
}

func TestExpiry(t *testing.T) {
	o := object()
	s, err := Of(o)
	require.NoError(t, err)
	_, ok := s.Expiry()
	require.False(t, ok)
	require.False(t, s.Expired(created.Add(1000*time.Hour)))
	o.Spec.TTL = &metav1.Duration{Duration: time.Hour}
	s, err = Of(o)
	require.NoError(t, err)
	when, ok := s.Expiry()
	require.True(t, ok)
	require.Equal(t, created.Add(time.Hour), when)
	require.False(t, s.Expired(created.Add(time.Hour-1)))
	require.True(t, s.Expired(created.Add(time.Hour)))
	s.Spec.TTL.Duration = -time.Hour
	require.True(t, s.Expired(created))
}

func unstructuredOf(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, u.UnmarshalJSON([]byte(text)))
	return u
}

func TestDecode(t *testing.T) {
	const head = `{"apiVersion":"nodegadget.dev/v1alpha1","kind":"TraceSession","metadata":{"namespace":"shop","name":"a","uid":"u","generation":2,"creationTimestamp":"2026-11-03T12:00:00Z","deletionTimestamp":"2026-11-03T13:00:00Z"},`
	s, err := Decode(unstructuredOf(t, head+`"spec":{"gadget":{"name":"trace_exec"},"ttl":"1h","selector":{"podNames":["p"]},"future":1},"status":{"events":"many"}}`))
	require.NoError(t, err, "the status isn't looked at")
	require.Equal(t, "a", s.Name)
	require.EqualValues(t, 2, s.Generation)
	require.True(t, s.Deleting)
	require.True(t, s.Expired(created.Add(time.Hour)))
	require.Equal(t, []string{"p"}, s.Selector.GetPods())

	s, err = Decode(unstructuredOf(t, `{"apiVersion":"nodegadget.dev/v1alpha1","kind":"ClusterTraceSession","metadata":{"name":"a"},"spec":{"gadget":{"name":"trace_exec"},"selector":{"host":true,"nodeNames":["n"]}}}`))
	require.NoError(t, err)
	require.True(t, s.Selector.GetHost())
	require.Equal(t, []string{"n"}, s.Nodes)

	for _, test := range []struct{ name, text, want string }{
		{"a duration that only the schema takes", head + `"spec":{"ttl":"1 day"}}`, `unknown unit " day" in duration`},
		{"a quantity that only the schema takes", head + `"spec":{"bufferSize":"1e1.5"}}`, "quantities must match"},
		{"another type", head + `"spec":{"suspend":"yes"}}`, "unrecognized type: bool"},
		{"no metadata", `{"apiVersion":"nodegadget.dev/v1alpha1","kind":"TraceSession","spec":{}}`, "without a namespace"},
		{"something else", `{"apiVersion":"v1","kind":"Pod"}`, `a "Pod" is no trace session`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Decode(unstructuredOf(t, test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}
