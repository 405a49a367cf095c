// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/gadget"
)

// admitter is the part of an API server that asks admission policies.
type admitter struct{ plugin *validating.Plugin }

// newAdmitter gives the policies that the chart makes of values to an API server's own
// code.
func newAdmitter(t *testing.T, values string) admitter {
	t.Helper()
	var policies []runtime.Object
	for _, o := range objects(t, render(t, kubeVersion, values)) {
		switch typed := o.typed.(type) {
		case *admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
			// Of which the API server's defaults are missing.
			policies = append(policies, defaulted(typed))
		}
	}
	client := fake.NewClientset(policies...)
	plugin, err := validating.NewPlugin(nil)
	require.NoError(t, err)
	factory := informers.NewSharedInformerFactory(client, 0)
	plugin.SetExternalKubeClientSet(client)
	plugin.SetExternalKubeInformerFactory(factory)
	plugin.SetRESTMapper(meta.NewDefaultRESTMapper(nil))
	plugin.SetDynamicClient(dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()))
	plugin.SetUnconditionalAuthorizer(authorizerfactory.NewAlwaysAllowAuthorizer())
	plugin.SetDrainedNotification(t.Context().Done())
	require.NoError(t, plugin.ValidateInitialization())
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	require.True(t, plugin.WaitForReady())
	return admitter{plugin}
}

func defaulted(object runtime.Object) runtime.Object {
	policy, ok := object.(*admissionv1.ValidatingAdmissionPolicy)
	if !ok {
		return object
	}
	constraints := policy.Spec.MatchConstraints
	equivalent, all := admissionv1.Equivalent, admissionv1.AllScopes
	constraints.MatchPolicy, constraints.NamespaceSelector, constraints.ObjectSelector = &equivalent, new(metav1.LabelSelector), new(metav1.LabelSelector)
	for i := range constraints.ResourceRules {
		constraints.ResourceRules[i].Scope = &all
	}
	return policy
}

// ask makes a session, or changes an old one to it. It returns what the API server says.
func (a admitter) ask(t *testing.T, object, old string) error {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	now := read(t, object)
	var before runtime.Object
	operation := admission.Create
	var options runtime.Object = new(metav1.CreateOptions)
	if old != "" {
		before, operation, options = read(t, old), admission.Update, new(metav1.UpdateOptions)
	}
	resource, _ := meta.UnsafeGuessKindToResource(now.GroupVersionKind())
	attributes := admission.NewAttributesRecord(now, before, now.GroupVersionKind(), now.GetNamespace(), now.GetName(),
		resource, "", operation, options, false, &user.DefaultInfo{Name: "alice"})
	return a.plugin.Validate(t.Context(), attributes, admission.NewObjectInterfacesFromScheme(scheme))
}

func read(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := new(unstructured.Unstructured)
	require.NoError(t, yaml.Unmarshal([]byte(text), &object.Object), text)
	return object
}

// clusterSession is one that has no namespace, which would have to be looked up.
func clusterSession(gadget, more string) string {
	return fmt.Sprintf("{apiVersion: nodegadget.dev/v1alpha1, kind: ClusterTraceSession, metadata: {name: x}, spec: {gadget: {name: %s}%s}}", gadget, more)
}

// TestAdmission asks an API server's code, which compiles the expressions and runs them.
func TestAdmission(t *testing.T) {
	a := newAdmitter(t, "{}")
	for name, test := range map[string]struct{ gadget, more, want string }{
		"nothing":               {"trace_exec", "", ""},
		"a boolean":             {"trace_exec", `, params: {failed: "true"}`, ""},
		"text":                  {"trace_exec", `, params: {comm: nginx}`, ""},
		"a list":                {"trace_bind", `, params: {ports: "22,80,443"}`, ""},
		"an empty list":         {"trace_bind", `, params: {ports: ""}`, ""},
		"a name in capitals":    {"profile_runqlat", `, params: {unit: MS}`, ""},
		"an interval":           {"top_syscall", `, interval: 10s`, ""},
		"no such gadget":        {"trace_exce", "", "unknown gadget trace_exce, known are: profile_runqlat, snapshot_process, "},
		"no such parameter":     {"trace_exec", `, params: {fialed: "true"}`, `gadget trace_exec has no parameter "fialed", it has: args-limit, comm, cwd, failed, pid, tid, uid`},
		"no boolean":            {"trace_exec", `, params: {failed: "yes"}`, `parameter failed of trace_exec is "yes", want true or false`},
		"out of range":          {"trace_signal", `, params: {signal: "65"}`, `parameter signal of trace_signal is "65", want a number from 0 to 64`},
		"negative":              {"trace_exec", `, params: {pid: "-1"}`, `parameter pid of trace_exec is "-1", want a number from 0 to 4294967295`},
		"far out of range":      {"trace_exec", `, params: {pid: "99999999999999999999999"}`, "want a number from 0 to 4294967295"},
		"no number":             {"trace_exec", `, params: {uid: root}`, `parameter uid of trace_exec is "root", want a number`},
		"no such name":          {"profile_runqlat", `, params: {unit: s}`, `parameter unit of profile_runqlat is "s", want one of us, ms`},
		"long text":             {"trace_exec", `, params: {comm: "0123456789abcdef"}`, `parameter comm of trace_exec is "0123456789abcdef", want a text of at most 15 bytes`},
		"long text of bytes":    {"trace_exec", `, params: {comm: "ääääääää"}`, "want a text of at most 15 bytes"},
		"very long text":        {"trace_exec", `, params: {comm: "` + strings.Repeat("x", 4000) + `"}`, "parameter comm of trace_exec is too long, want a text of at most 15 bytes"},
		"lines":                 {"trace_exec", `, params: {failed: "a\nb"}`, `parameter failed of trace_exec is "a\nb", want true or false`},
		"a long list":           {"trace_bind", `, params: {ports: "` + strings.Repeat("1,", 16) + `1"}`, "want at most 16 values with commas between, each a number from 0 to 65535"},
		"a list with a mistake": {"trace_bind", `, params: {ports: "22,http"}`, `parameter ports of trace_bind is "22,http", want at most 16 values`},
		"an interval of events": {"trace_exec", `, interval: 10s`, "gadget trace_exec reports events as they happen and has no interval"},
	} {
		t.Run(name, func(t *testing.T) {
			err := a.ask(t, clusterSession(test.gadget, test.more), "")
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestAdmissionOfChanges wants a session that was allowed once to be open to changes
// that have nothing to do with gadgets.
func TestAdmissionOfChanges(t *testing.T) {
	a := newAdmitter(t, "{}")
	old := clusterSession("trace_gone", `, params: {x: "1"}`)
	require.Error(t, a.ask(t, old, ""))
	require.NoError(t, a.ask(t, strings.Replace(old, "{name: x}", "{name: x, finalizers: []}", 1), old))
	require.NoError(t, a.ask(t, strings.Replace(old, "params", "suspend: true, params", 1), old))
	require.ErrorContains(t, a.ask(t, strings.Replace(old, `"1"`, `"2"`, 1), old), "unknown gadget trace_gone")
	require.ErrorContains(t, a.ask(t, clusterSession("trace_exec", `, params: {x: "1"}`), clusterSession("trace_exec", "")), "no parameter")
	require.ErrorContains(t, a.ask(t, clusterSession("trace_exec", `, interval: 1s`), clusterSession("trace_exec", "")), "has no interval")
}

// TestAdmissionOfOtherGadgets wants gadgets to pass that agents have and the chart
// doesn't know, and those that it knows to be looked at all the same.
func TestAdmissionOfOtherGadgets(t *testing.T) {
	a := newAdmitter(t, "admission: {otherGadgets: true}")
	require.NoError(t, a.ask(t, clusterSession("trace_other", `, interval: 1s, params: {x: "1"}`), ""))
	require.ErrorContains(t, a.ask(t, clusterSession("trace_exec", `, params: {x: "1"}`), ""), "no parameter")
}

// TestAdmissionAgreesWithAgents gives each parameter of each gadget all kinds of values.
// What agents take must be admitted, and what they refuse must not, but for numbers
// that CEL can't compare.
func TestAdmissionAgreesWithAgents(t *testing.T) {
	a := newAdmitter(t, "{}")
	catalog, err := gadget.NewCatalog(gadgets.Objects(), "x86_64")
	require.NoError(t, err)
	probes := []string{
		"", "0", "1", "-1", "+1", "-0", "00", "08", "007", "1_000", "1__0", "_1", "0x10", "0xffffffffff", "0b11", "0b2", "0o17", "1e3", "1.5", " 1", "1 ", "1\n",
		"16383", "16384", "64", "65", "4294967295", "4294967296", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551616",
		"true", "TRUE", "tRUE", "t", "yes", "us", "Ms", "process", "containers", "\u0000", "nginx", "ünïcödé-nämes", "1,2", "1,", ",", "1,a", "٣",
	}
	admitted := map[string]bool{"1_000": true, "0xffffffffff": true, "9223372036854775808": true, "18446744073709551616": true}
	for _, name := range catalog.Names() {
		object, err := catalog.Object(name)
		require.NoError(t, err)
		for _, p := range object.Spec.Params {
			for _, value := range probes {
				text, err := json.Marshal(value)
				require.NoError(t, err)
				_, refused := p.Encode(value, binary.LittleEndian)
				err = a.ask(t, clusterSession(name, fmt.Sprintf(`, params: {%s: %s}`, p.Name, text)), "")
				if refused != nil && err == nil && p.Kind != gadget.Bool && admitted[value] {
					continue
				}
				require.Equal(t, refused == nil, err == nil, "%s --%s=%q: %v", name, p.Name, value, errors.Join(refused, err))
			}
		}
	}
}
