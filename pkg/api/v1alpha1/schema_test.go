// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// crds are the definitions that the chart installs, by kind.
func crds(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	paths, err := filepath.Glob("../../../charts/nodegadget/files/crds/*.yaml")
	require.NoError(t, err)
	found := make(map[string]*apiextensions.CustomResourceDefinition)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict(text, &crd))
		apiextensionsv1.SetDefaults_CustomResourceDefinition(&crd)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		internal := new(apiextensions.CustomResourceDefinition)
		require.NoError(t, apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&crd, internal, nil))
		internal.Status.StoredVersions = []string{"v1alpha1"}
		found[crd.Spec.Names.Kind] = internal
	}
	return found
}

// TestDefinitions wants an API server to take the definitions: structural, and rules
// that compile and can't cost too much.
func TestDefinitions(t *testing.T) {
	found := crds(t)
	require.Len(t, found, 2)
	for kind, crd := range found {
		require.NoError(t, crdvalidation.ValidateCustomResourceDefinition(t.Context(), crd).ToAggregate(), kind)
		require.Equal(t, []string{"nodegadget"}, crd.Spec.Names.Categories)
	}
	require.Equal(t, apiextensions.NamespaceScoped, found["TraceSession"].Spec.Scope)
	require.Equal(t, apiextensions.ClusterScoped, found["ClusterTraceSession"].Spec.Scope)
	require.Equal(t, []string{"tsess"}, found["TraceSession"].Spec.Names.ShortNames)
	require.Equal(t, []string{"ctsess"}, found["ClusterTraceSession"].Spec.Names.ShortNames)
}

// judge does with objects what an API server does.
type judge struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	rules      *schemacel.Validator
}

// judges are the kinds' judges.
func judges(t *testing.T) map[string]judge {
	t.Helper()
	all := make(map[string]judge)
	for kind, crd := range crds(t) {
		v, err := apiextensions.GetSchemaForVersion(crd, "v1alpha1")
		require.NoError(t, err)
		structural, err := structuralschema.NewStructural(v.OpenAPIV3Schema)
		require.NoError(t, err)
		schema, _, err := validation.NewSchemaValidator(v.OpenAPIV3Schema)
		require.NoError(t, err)
		all[kind] = judge{structural, schema, schemacel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
	return all
}

// read reads an object, and wants no field that the API doesn't have.
func (j judge) read(t *testing.T, text string) (object map[string]any, unknown []string) {
	t.Helper()
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &object), text)
	// As the API server's decoder reads numbers.
	object = integers(object).(map[string]any)
	unknown = pruning.PruneWithOptions(object, j.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	return object, unknown
}

func integers(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, v := range typed {
			typed[key] = integers(v)
		}
	case []any:
		for i, v := range typed {
			typed[i] = integers(v)
		}
	case float64:
		if typed == float64(int64(typed)) {
			return int64(typed)
		}
	}
	return value
}

// errors is what an API server says to an object, in place of an old one if there is one.
func (j judge) errors(t *testing.T, object, old map[string]any) string {
	t.Helper()
	found := validation.ValidateCustomResource(nil, object, j.schema)
	found = append(found, listtype.ValidateListSetsAndMaps(nil, j.structural, object)...)
	var before any
	if old != nil {
		before = old
	}
	more, _ := j.rules.Validate(t.Context(), field.NewPath(""), j.structural, object, before, celconfig.RuntimeCELCostBudget)
	var texts []string
	for _, err := range append(found, more...) {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "\n")
}
