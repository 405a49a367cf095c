// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// object is one of what a render has, with its text.
type object struct {
	metav1.Object
	typed runtime.Object
	text  string
}

// objects reads a render strictly: a field that Kubernetes doesn't have is an error.
func objects(t *testing.T, rendered map[string]string) []object {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []object
	for _, text := range manifests(rendered) {
		typed, _, err := decoder.Decode([]byte(text), nil, nil)
		if runtime.IsNotRegisteredError(err) {
			custom := new(unstructured.Unstructured)
			typed, err = custom, yaml.UnmarshalStrict([]byte(text), &custom.Object)
		}
		require.NoError(t, err, text)
		all = append(all, object{typed.(metav1.Object), typed, text})
	}
	return all
}

// eachCase calls check with what the chart makes of each file of values in testdata.
func eachCase(t *testing.T, check func(t *testing.T, all []object)) {
	paths, err := filepath.Glob("testdata/*.values.yaml")
	require.NoError(t, err)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".values.yaml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			check(t, objects(t, render(t, kubeVersion, string(text))))
		})
	}
}

// pods are the pods that objects make, by the names of what makes them.
func pods(all []object) map[string]corev1.PodSpec {
	specs := make(map[string]corev1.PodSpec)
	for _, o := range all {
		switch typed := o.typed.(type) {
		case *appsv1.DaemonSet:
			specs[typed.Name] = typed.Spec.Template.Spec
		case *appsv1.Deployment:
			specs[typed.Name] = typed.Spec.Template.Spec
		case *corev1.Pod:
			specs[typed.Name] = typed.Spec
		}
	}
	return specs
}

// rights are the rules that a service account is given, by bindings of any kind.
func rights(all []object, account string) []rbacv1.PolicyRule {
	rules := make(map[string][]rbacv1.PolicyRule)
	bound := make(map[string]bool)
	bind := func(subjects []rbacv1.Subject, ref rbacv1.RoleRef) {
		for _, s := range subjects {
			if s.Kind == rbacv1.ServiceAccountKind && s.Name == account {
				bound[ref.Kind+" "+ref.Name] = true
			}
		}
	}
	for _, o := range all {
		switch typed := o.typed.(type) {
		case *rbacv1.ClusterRole:
			rules["ClusterRole "+typed.Name] = typed.Rules
		case *rbacv1.Role:
			rules["Role "+typed.Name] = typed.Rules
		case *rbacv1.ClusterRoleBinding:
			bind(typed.Subjects, typed.RoleRef)
		case *rbacv1.RoleBinding:
			bind(typed.Subjects, typed.RoleRef)
		}
	}
	var given []rbacv1.PolicyRule
	for role := range bound {
		given = append(given, rules[role]...)
	}
	return given
}
