// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/version"
	admissioncel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

// definitions are the CustomResourceDefinitions of a render, by name.
func definitions(t *testing.T, version, values string) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	found := make(map[string]*apiextensionsv1.CustomResourceDefinition)
	for _, o := range objects(t, render(t, version, values)) {
		if o.typed.GetObjectKind().GroupVersionKind().Kind == "CustomResourceDefinition" {
			crd := new(apiextensionsv1.CustomResourceDefinition)
			require.NoError(t, yaml.UnmarshalStrict([]byte(o.text), crd))
			found[crd.Name] = crd
		}
	}
	return found
}

// TestDefinitionsStay wants definitions to be upgraded with the chart, and to outlive
// it with all sessions unless somebody doesn't want that.
func TestDefinitionsStay(t *testing.T) {
	names := []string{"clustertracesessions.nodegadget.dev", "tracesessions.nodegadget.dev"}
	for values, keep := range map[string]string{"{}": "keep", "crds: {keep: false}": ""} {
		found := definitions(t, kubeVersion, values)
		require.Equal(t, names, slices.Sorted(maps.Keys(found)))
		for name, crd := range found {
			require.Equal(t, keep, crd.Annotations["helm.sh/resource-policy"], name)
			require.Equal(t, "nodegadget", crd.Labels["app.kubernetes.io/name"], name)
			require.NotContains(t, crd.Annotations, "helm.sh/hook")
		}
	}
	require.Empty(t, definitions(t, kubeVersion, "crds: {install: false}"))
	require.Empty(t, load(t).CRDObjects(), "what Helm would never upgrade")
}

// TestDefinitionsOfOldClusters wants rules that the cluster's version understands, and
// all of them where it does.
func TestDefinitionsOfOldClusters(t *testing.T) {
	for release, quantities := range map[string]int{"v1.25.0": 0, "v1.28.15-eks-1": 0, "v1.29.0": 3, "v1.36.3": 3} {
		known := version.MustParseGeneric(strings.Split(release, "-")[0])
		base := environment.MustBaseEnvSet(version.MajorMinor(known.Major(), known.Minor()))
		for name, crd := range definitions(t, release, "{}") {
			rules := compile(t, base, crd)
			require.Len(t, rules, 7+quantities, name)
			found := slices.DeleteFunc(rules, func(rule string) bool { return !strings.Contains(rule, "quantity(") })
			require.Len(t, found, quantities, "%s: %s", release, name)
		}
	}
}

// compile compiles the rules of a definition as an API server does, and returns them.
func compile(t *testing.T, base *environment.EnvSet, crd *apiextensionsv1.CustomResourceDefinition) (rules []string) {
	t.Helper()
	var internal apiextensions.JSONSchemaProps
	require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &internal, nil))
	root, err := structuralschema.NewStructural(&internal)
	require.NoError(t, err)
	var walk func(s *structuralschema.Structural, isRoot bool)
	walk = func(s *structuralschema.Structural, isRoot bool) {
		results, err := schemacel.Compile(s, model.SchemaDeclType(s, isRoot), celconfig.PerCallLimit, base, schemacel.NewExpressionsEnvLoader())
		require.NoError(t, err)
		for i, result := range results {
			require.Nil(t, result.Error, s.XValidations[i].Rule)
			rules = append(rules, s.XValidations[i].Rule)
		}
		for _, property := range s.Properties {
			walk(&property, false)
		}
		if s.Items != nil {
			walk(s.Items, false)
		}
	}
	walk(root, true)
	return rules
}

// TestAdmissionOfOldClusters wants expressions that the oldest cluster understands which
// gets the policy.
func TestAdmissionOfOldClusters(t *testing.T) {
	base := environment.MustBaseEnvSet(version.MajorMinor(1, 30))
	compiler, err := admissioncel.NewCompositedCompiler(base)
	require.NoError(t, err)
	options := admissioncel.OptionalVariableDeclarations{HasAuthorizer: true}
	compiled := 0
	for _, o := range objects(t, render(t, "v1.30.0", "{}")) {
		policy, ok := o.typed.(*admissionv1.ValidatingAdmissionPolicy)
		if !ok {
			continue
		}
		for _, v := range policy.Spec.Variables {
			result := compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, options, environment.NewExpressions)
			require.Nil(t, result.Error, v.Name)
		}
		var expressions []admissioncel.ExpressionAccessor
		for _, c := range policy.Spec.MatchConditions {
			expressions = append(expressions, &validating.ValidationCondition{Expression: c.Expression})
		}
		for _, v := range policy.Spec.Validations {
			expressions = append(expressions, &validating.ValidationCondition{Expression: v.Expression},
				&validating.MessageExpressionCondition{MessageExpression: v.MessageExpression})
		}
		require.Empty(t, compiler.CompileCondition(expressions, options, environment.NewExpressions).CompilationErrors())
		compiled += len(expressions)
	}
	require.Greater(t, compiled, 6)
}

// TestAdmissionIsOptional wants the policy where the cluster has such, and nobody has
// turned it off.
func TestAdmissionIsOptional(t *testing.T) {
	for _, test := range []struct {
		version, values string
		want            int
	}{
		{"v1.29.9", "{}", 0},
		{"v1.30.0", "{}", 2},
		{"v1.36.3-gke.1", "{}", 2},
		{"v1.36.3", "admission: {enabled: false}", 0},
	} {
		var found int
		for _, o := range objects(t, render(t, test.version, test.values)) {
			switch o.typed.(type) {
			case *admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
				found++
			}
		}
		require.Equal(t, test.want, found, test)
	}
}
