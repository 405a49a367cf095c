// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

func TestSelection(t *testing.T) {
	c := &container.Container{Ref: 1, Name: "web", Pod: container.Pod{
		Namespace: "shop", Name: "cart-1", Labels: map[string]string{"app": "cart", "tier": "front"},
	}}
	for _, test := range []struct {
		name     string
		selector *wire.Selector
		want     bool
	}{
		{"none", nil, true},
		{"empty", &wire.Selector{}, true},
		{"namespace", &wire.Selector{Namespaces: []string{"bank", "shop"}}, true},
		{"other namespace", &wire.Selector{Namespaces: []string{"bank"}}, false},
		{"pod", &wire.Selector{Pods: []string{"cart-1"}}, true},
		{"other pod", &wire.Selector{Pods: []string{"cart"}}, false},
		{"container", &wire.Selector{Containers: []string{"web"}}, true},
		{"other container", &wire.Selector{Containers: []string{"init"}}, false},
		{"label", &wire.Selector{Labels: "app=cart"}, true},
		{"labels", &wire.Selector{Labels: "app in (cart, db),tier!=back,!old"}, true},
		{"other label", &wire.Selector{Labels: "app=db"}, false},
		{"label that isn't there", &wire.Selector{Labels: "old"}, false},
		{"all but one", &wire.Selector{Namespaces: []string{"shop"}, Pods: []string{"cart-1"}, Labels: "tier=back"}, false},
		{"host adds nothing to containers", &wire.Selector{Namespaces: []string{"bank"}, Host: true}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			selection, err := selectionOf(test.selector)
			require.NoError(t, err)
			require.Equal(t, test.want, selection.Match(c))
			require.Equal(t, test.selector == nil, selection.Machine)
			require.Equal(t, test.selector.GetHost(), selection.Host)
		})
	}
}

func TestBadSelectorsAreTheClientsFault(t *testing.T) {
	client := dial(t, New(Options{Gadgets: catalog(t)}))
	for _, test := range []struct {
		name     string
		selector *wire.Selector
		code     codes.Code
		want     string
	}{
		{"no labels", &wire.Selector{Labels: "app in ("}, codes.InvalidArgument, "label selector: "},
		{"long labels", &wire.Selector{Labels: strings.Repeat("a", 5000)}, codes.InvalidArgument, "label selector of 5000 bytes, at most 4096 are taken"},
		{"many names", &wire.Selector{Pods: slices.Repeat([]string{"a"}, 2000)}, codes.InvalidArgument, "2000 names in the selector, at most 1024 are taken"},
		{"agent without containers", &wire.Selector{}, codes.FailedPrecondition, "doesn't know which containers there are"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := start(t, client, &wire.Start{Gadget: "trace_open", Selector: test.selector})
			require.Equal(t, test.code, status.Code(err))
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestRecordsOfAnonymousGadgetsCantBeSelected: they can't be kept from who may not see them.
func TestRecordsOfAnonymousGadgetsCantBeSelected(t *testing.T) {
	a := New(Options{Containers: &container.Registry{}})
	plain := &gadget.Object{Spec: gadget.Spec{Name: "top_x", Source: gadget.Source{Fields: []gadget.Field{{Name: "n", Size: 8}}}}}
	require.NoError(t, a.planSelection(&plan{object: plain}, nil))
	require.ErrorContains(t, a.planSelection(&plan{object: plain}, &wire.Selector{Host: true}), "records of gadget top_x don't say whose they are")
}

// TestKernelFiltersWhatHasOneProcess of the gadgets that there are.
func TestKernelFiltersWhatHasOneProcess(t *testing.T) {
	gadgets := catalog(t)
	a := New(Options{Gadgets: gadgets, Containers: &container.Registry{}})
	for _, name := range gadgets.Names() {
		object, err := gadgets.Object(name)
		require.NoError(t, err)
		p := &plan{object: object}
		require.NoError(t, a.planSelection(p, &wire.Selector{}))
		require.Equal(t, name != "trace_signal", p.opts.FilterContainers, name)
		require.NoError(t, a.planSelection(&plan{object: object}, nil))
	}
}

// TestWhatARecordTellsOfWhom names the fields that are blanked for who may see only
// one of two processes.
func TestWhatARecordTellsOfWhom(t *testing.T) {
	object, err := catalog(t).Object("trace_signal")
	require.NoError(t, err)
	source := object.Spec.Source
	maker, target := identities(source)
	names := func(offsets func(f gadget.Field) bool) (names []string) {
		for _, f := range source.Fields {
			if offsets(f) {
				names = append(names, f.Name)
			}
		}
		return names
	}
	var mine, theirs []int
	for _, p := range maker.Parts {
		mine = append(mine, p.Offset)
	}
	for _, p := range target.Parts {
		theirs = append(theirs, p.Offset)
	}
	require.Equal(t, []string{"cgroup_id"}, names(func(f gadget.Field) bool { return int(f.Offset) == maker.Cgroup }))
	require.Equal(t, []string{"target.cgroup_id"}, names(func(f gadget.Field) bool { return int(f.Offset) == target.Cgroup }))
	require.Equal(t, []string{"cgroup_id", "mntns_id", "pid", "tid", "uid", "gid", "comm"},
		names(func(f gadget.Field) bool { return slices.Contains(mine, int(f.Offset)) }))
	require.Equal(t, []string{"target.pid", "target.tid", "target.cgroup_id", "target.mntns_id", "target.comm"},
		names(func(f gadget.Field) bool { return slices.Contains(theirs, int(f.Offset)) }))
}
