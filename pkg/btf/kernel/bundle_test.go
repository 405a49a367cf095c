// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

// object is that of a built-in gadget.
func object(tb testing.TB, name string) tailor.Object {
	tb.Helper()
	content, err := gadgets.Objects().ReadFile(name + "/gadget.x86_64.o")
	if err != nil {
		content, err = gadgets.Objects().ReadFile(name + "/gadget.arm64.o")
	}
	require.NoError(tb, err)
	return tailor.Object{Name: name, Content: content}
}

// bundleFor has one kernel's types for an object.
func bundleFor(tb testing.TB, made tailor.Object, place string, raw []byte) []byte {
	tb.Helper()
	needs, err := tailor.Parse(made)
	require.NoError(tb, err)
	w := bundle.Writer{Objects: []bundle.Object{{Name: made.Name, Digest: needs.Digest()}}}
	k, err := layout.Parse(place + "/" + arch(tb) + "/" + release)
	require.NoError(tb, err)
	require.NoError(tb, w.Add(k, raw))
	content, err := w.Encode()
	require.NoError(tb, err)
	return content
}

func TestBundleComesBeforeTheService(t *testing.T) {
	exec := object(t, "trace_exec")
	right := rawBTF(t, right)
	exact, elsewhere := bundleFor(t, exec, "ubuntu/20.04", right), bundleFor(t, exec, "ubuntu/18.04", right)
	for _, test := range []struct {
		name string
		opts func(dir string, n *node) Options
		kind SourceKind
		path func(dir string, n *node) string
	}{
		{
			"the image's", func(_ string, n *node) Options {
				require.NoError(t, os.MkdirAll(n.bundle[:len(n.bundle)-len("/btf.bundle")], 0o755))
				require.NoError(t, os.WriteFile(n.bundle, exact, 0o600))
				return Options{Embedded: []byte("not this")}
			}, Bundle, func(_ string, n *node) string { return n.bundle },
		},
		{
			"named", func(dir string, _ *node) Options { return Options{Bundle: put(t, dir, "b", elsewhere)} },
			SameName, func(dir string, _ *node) string { return dir + "/b" },
		},
		{
			"embedded", func(string, *node) Options { return Options{Embedded: exact} },
			Bundle, func(string, *node) string { return "the built-in bundle" },
		},
		{
			"explicit", func(dir string, _ *node) Options { return Options{Path: put(t, dir, "b", elsewhere)} },
			Explicit, func(dir string, _ *node) string { return dir + "/b" },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, dir := newNode(t), t.TempDir()
			opts := test.opts(dir, n)
			if opts.Path == "" {
				opts.Service = "http://127.0.0.1:1"
			}
			got, err := n.open(opts).Types(t.Context(), exec)
			require.NoError(t, err)
			requireRight(t, got)
			require.Equal(t, test.kind, got.Source.Kind)
			require.True(t, got.Source.Tailored)
			require.Equal(t, test.path(dir, n), got.Source.Path)
		})
	}
}

// TestBundleForOtherGadgetsIsPassedOver: it would lack types that they need.
func TestBundleForOtherGadgetsIsPassedOver(t *testing.T) {
	n := newNode(t)
	url, _ := serve(t, "ubuntu", rawBTF(t, right))
	path := put(t, t.TempDir(), "b", bundleFor(t, object(t, "trace_exec"), "ubuntu/20.04", rawBTF(t, right)))
	c := n.open(Options{Bundle: path, Service: url})
	got, err := c.Types(t.Context(), object(t, "trace_exec"))
	require.NoError(t, err)
	require.Equal(t, Bundle, got.Source.Kind)

	got, err = c.Types(t.Context(), object(t, "trace_open"), object(t, "trace_exec"))
	require.NoError(t, err)
	require.Equal(t, Service, got.Source.Kind)
	require.Equal(t, path+": was not made for trace_open", got.Source.Tried[len(got.Source.Tried)-1])

	raw, source, err := c.Raw(t.Context(), object(t, "trace_exec"))
	require.NoError(t, err)
	require.Equal(t, rawBTF(t, right), raw)
	require.Equal(t, Bundle, source.Kind)

	c.Close()
	_, err = c.Types(t.Context(), object(t, "trace_signal"))
	require.ErrorContains(t, err, "shuts down")
}

// TestBrokenBundleIsSaid: one that was named is an error, the image's is not.
func TestBrokenBundleIsSaid(t *testing.T) {
	n := newNode(t)
	content := bundleFor(t, object(t, "trace_exec"), "ubuntu/20.04", rawBTF(t, right))
	broken := content[:len(content)-1]
	path := put(t, t.TempDir(), "b", broken)
	_, err := open(Options{Bundle: path, Root: n.root, Release: release}, n.places)
	require.ErrorContains(t, err, "opening BTF bundle: ")
	_, err = open(Options{Path: path, Root: n.root, Release: release}, n.places)
	require.ErrorContains(t, err, "reading BTF given by --btf: "+path+": ")

	_, err = n.open(Options{Embedded: broken}).Types(t.Context())
	require.ErrorContains(t, err, "the built-in bundle: ")
	n.bundle = path
	_, err = n.open(Options{}).Types(t.Context())
	var notFound *NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.Contains(t, notFound.Tried[len(notFound.Tried)-1], path+": ")
}
