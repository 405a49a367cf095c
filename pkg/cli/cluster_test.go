// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/session"
	"nodegadget.dev/pkg/wire"
)

// cartOf are the containers of two nodes, node 1 and 2 of a session.
func cartOf() *wire.RunResponse {
	return containersOf(
		&wire.Container{Ref: 11, Node: 1, Id: "c0ffee", Name: "web", Namespace: "shop", Pod: "cart-1", Image: "cart:1"},
		&wire.Container{Ref: 12, Node: 2, Id: "beef", Name: "web\x1b[2J", Namespace: "shop", Pod: "cart-2", Image: "cart:1"},
		&wire.Container{Ref: 13, Node: 2, Kind: wire.Container_HOST, Name: "not the host's"},
		&wire.Container{Ref: 14, Node: 1, Kind: wire.Container_UNRESOLVED, Id: "dead"},
	)
}

// moonlight shows events of two nodes, merged.
func moonlight(s *relayStage) error {
	for _, err := range []error{
		s.send(0, sessionOf("node1", "node2")),
		s.send(1, headerOf("node1", 0, moonSpec)), s.send(2, headerOf("node2", 0, moonSpec)), s.send(1, cartOf()),
		s.send(0, recordsOf(false, 11, moon(1, "new"), 12, moon(2, "full\x1b[2J"), 13, moon(3, "full"), 14, moon(4, "new"))),
		s.send(1, endOf(2, nil)), s.send(2, endOf(2, nil)), s.send(0, endOf(4, &wire.Loss{Unresolved: 1})),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestEventsOfACluster(t *testing.T) {
	f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: moonlight}
	r := callCluster(t, f, "watch", "moon", "-v")
	require.Zero(t, r.status, r.err)
	golden(t, "cluster-columns.txt", r.out)
	require.Equal(t, "node node1: kernel of node1\nnode node2: kernel of node2\n4 events, 0 lost, 1 unresolved\n", r.err)
	attach := f.started().GetAttach()
	require.Equal(t, "shop", attach.GetNamespace(), "the current namespace")
	require.True(t, attach.GetOwner() && attach.GetFollow() && attach.GetUid() != "", attach)

	r = callCluster(t, f, "watch", "moon", "-o", "json")
	require.Zero(t, r.status, r.err)
	golden(t, "cluster-json.txt", r.out)

	r = callCluster(t, f, "watch", "moon", "-o", "json", "--max-events", "2")
	require.Zero(t, r.status, r.err)
	require.Equal(t, 2, strings.Count(r.out, "\n"))

	r = callCluster(t, f, "watch", "moon", "--fields", "pod,phase,containerID")
	require.Zero(t, r.status, r.err)
	golden(t, "cluster-fields.txt", r.out)
}

// TestSecondProcessOfARecord is named as well, wherever it is.
func TestSecondProcessOfARecord(t *testing.T) {
	spec := &gadget.Spec{Name: "watch_moon", Description: "show shots", Source: gadget.Source{
		Kind: gadget.Events, Map: "gadget_events", Size: 16, Fields: []gadget.Field{
			{Name: "n", Doc: "number", Offset: 0, Size: 8, Kind: gadget.Uint},
			{Name: "target.cgroup_id", Doc: "cgroup", Offset: 8, Size: 8, Kind: gadget.Uint, Semantic: gadget.Cgroup},
		},
	}}
	f := &fakeRelay{specs: []*gadget.Spec{spec}, play: func(s *relayStage) error {
		shots := recordsOf(false, 11, moon(1, "")[:16], 13, moon(2, "")[:16])
		shots.GetBatch().Targets = []uint32{12, 0}
		for _, err := range []error{
			s.send(0, sessionOf("node1", "node2")), s.send(1, headerOf("node1", 0, spec)), s.send(2, headerOf("node2", 0, spec)),
			s.send(1, cartOf()), s.send(0, shots), s.send(0, endOf(2, nil)),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}}
	r := callCluster(t, f, "watch", "moon", "--fields", "pod,n,target.pod")
	require.Zero(t, r.status, r.err)
	require.Equal(t, "POD                                   N TARGET.POD\ncart-1                                1 cart-2\n                                      2\n", r.out)
}

func TestSelection(t *testing.T) {
	for _, test := range []struct {
		args  string
		want  *wire.Selector
		nodes []string
	}{
		{"", &wire.Selector{Namespaces: []string{"shop"}}, nil},
		{"-n bank,shop", &wire.Selector{Namespaces: []string{"bank", "shop"}}, nil},
		{"-n bank --namespace shop", &wire.Selector{Namespaces: []string{"bank", "shop"}}, nil},
		{"-A", &wire.Selector{}, nil},
		{"-A -n bank", &wire.Selector{}, nil},
		{"-A --host", &wire.Selector{Host: true}, nil},
		{"--host=false", &wire.Selector{Namespaces: []string{"shop"}}, nil},
		{
			"-p cart-1,cart-2 -c web -l app=cart,tier!=cache --node node2",
			&wire.Selector{Namespaces: []string{"shop"}, Pods: []string{"cart-1", "cart-2"}, Containers: []string{"web"}, Labels: "app=cart,tier notin (cache)"},
			[]string{"node2"},
		},
		{"--podname cart-1 --containername web --selector app=cart --node node1,node2 --all-namespaces", &wire.Selector{
			Pods: []string{"cart-1"}, Containers: []string{"web"}, Labels: "app=cart",
		}, []string{"node1", "node2"}},
	} {
		t.Run(test.args, func(t *testing.T) {
			f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: moonlight}
			s := clustertest.New(t, f)
			got := selected(t, f, s)
			r := call(t, append([]string{"watch", "moon", "--kubeconfig", s.Kubeconfig}, strings.Fields(test.args)...)...)
			require.Zero(t, r.status, r.err)
			require.Equal(t, test.want.String(), got.String())
			require.Equal(t, test.nodes, f.started().GetNodes())
		})
	}
}

// TestFlagsBeforeTheGadget: kubectl's users write some of them first.
func TestFlagsBeforeTheGadget(t *testing.T) {
	f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: moonlight}
	s := clustertest.New(t, f)
	got := selected(t, f, s)
	r := call(t, "--kubeconfig", s.Kubeconfig, "-n", "bank", "watch", "moon")
	require.Zero(t, r.status, r.err)
	require.Equal(t, []string{"bank"}, got.GetNamespaces())
	f.requests = nil
	r = call(t, "--kubeconfig", s.Kubeconfig, "-A", "watch", "moon")
	require.Zero(t, r.status, r.err)
	require.Empty(t, got.GetNamespaces())
}

// selected becomes what a run selects when it begins, itself or by its trace session.
func selected(t *testing.T, f *fakeRelay, s *clustertest.Server) *wire.Selector {
	t.Helper()
	got, play := &wire.Selector{}, f.play
	f.play = func(stage *relayStage) error {
		start := stage.request.GetStart()
		if attach := start.GetAttach(); attach != nil {
			start = sessionStart(t, s, attach)
		}
		proto.Reset(got)
		proto.Merge(got, start.GetSelector())
		return play(stage)
	}
	return got
}

// sessionStart is what an agent runs for the trace session.
func sessionStart(t *testing.T, s *clustertest.Server, attach *wire.Attach) *wire.Start {
	resource := "tracesessions"
	if attach.GetNamespace() == "" {
		resource = "clustertracesessions"
	}
	made, err := session.Decode(&unstructured.Unstructured{Object: s.Object(resource, attach.GetNamespace(), attach.GetName())})
	require.NoError(t, err)
	return made.Start()
}

// oldSpec is an older version of watch_moon: other offsets, no phase, and the number
// is a smaller one.
var oldSpec = &gadget.Spec{
	Name: "watch_moon", Description: "show the phases of the moon",
	Source: gadget.Source{Kind: gadget.Events, Map: "gadget_events", Size: 16, Fields: []gadget.Field{
		{Name: "year", Doc: "year", Offset: 0, Size: 8, Kind: gadget.Uint},
		{Name: "n", Doc: "number", Offset: 8, Size: 4, Kind: gadget.Uint},
	}},
}

// TestNodesOfAnotherVersion: each record is read as its own node's agent says, and
// shown under the same names.
func TestNodesOfAnotherVersion(t *testing.T) {
	old := append(make([]byte, 8), 7, 0, 0, 0, 0, 0, 0, 0)
	play := func(first, second *gadget.Spec, records ...any) func(s *relayStage) error {
		return func(s *relayStage) error {
			for _, err := range []error{
				s.send(0, sessionOf("node1", "node2")),
				s.send(1, headerOf("node1", 0, first)), s.send(2, headerOf("node2", 0, second)), s.send(1, cartOf()),
				s.send(0, recordsOf(false, records...)), s.send(0, &wire.RunResponse{}), s.send(0, endOf(2, nil)),
			} {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	newerFirst := play(moonSpec, oldSpec, 11, moon(1, "new"), 12, old, 11, moon(3, "full"))
	for mode, play := range map[string]func(s *relayStage) error{
		"columns": newerFirst, "json": newerFirst,
		"fields": play(oldSpec, moonSpec, 11, old, 12, moon(1, "new")),
	} {
		f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: play}
		args := []string{"watch", "moon", "-o", mode}
		if mode == "fields" {
			// The first node doesn't have what was asked for.
			args = []string{"watch", "moon", "--fields", "n,phase"}
		}
		r := callCluster(t, f, args...)
		require.Zero(t, r.status, r.err)
		golden(t, "cluster-skew-"+mode+".txt", r.out)
	}
}

func TestGadgetsThatOnlyTheClusterKnows(t *testing.T) {
	f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: moonlight}
	r := callCluster(t, f, "inspect", "watch", "moon")
	require.Equal(t, 2, r.status, "inspect takes no flags for clusters")
	s := clustertest.New(t, f)
	t.Setenv("KUBECONFIG", s.Kubeconfig)
	r = call(t, "inspect", "watch", "moon")
	require.Zero(t, r.status, r.err)
	require.Contains(t, r.out, "watch moon: show the phases of the moon")
	r = call(t, "watch", "sun")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.err, `unknown command "sun" for kubectl-gadget watch, known are: moon`)
	r = call(t, "frobnicate")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.err, `unknown command "frobnicate" for kubectl-gadget, known are: `)
	require.Contains(t, r.err, ", watch")
}

// TestNewerGadgetOfTheCluster: its flags and fields can be used, though this program
// has an older version of the gadget.
func TestNewerGadgetOfTheCluster(t *testing.T) {
	newer := &gadget.Spec{
		Name: "trace_open", Description: "newer", Source: moonSpec.Source,
		Params: []gadget.Param{{Name: "moonlit", Doc: "only at full moon", Kind: gadget.Bool, Size: 1, Default: "false"}},
	}
	f := &fakeRelay{specs: []*gadget.Spec{newer}, play: func(s *relayStage) error {
		for _, err := range []error{
			s.send(0, sessionOf("node1")), s.send(1, headerOf("node1", 0, newer), cartOf()),
			s.send(0, recordsOf(false, 11, moon(1, "new"))), s.send(0, endOf(1, nil)),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}}
	r := callCluster(t, f, "trace", "open", "--moonlit", "--fields", "phase", "--filter", `phase != ""`)
	require.Zero(t, r.status, r.err)
	require.Contains(t, r.out, "new")
	r = callCluster(t, f, "trace", "open", "--sunlit")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.err, "unknown flag: --sunlit")
}

// TestRunIsASession of the kind that the flags ask for, and one that is gone afterwards.
func TestRunIsASession(t *testing.T) {
	for flags, want := range map[string]string{
		"-n shop -p cart -l app=cart --filter n>0": "tracesessions shop " +
			`{"filter":"n\u003e0","gadget":{"name":"watch_moon"},"output":{"stream":{"retain":100000,"retainBytes":"8Mi"}},` +
			`"selector":{"podNames":["cart"],"podSelector":{"matchLabels":{"app":"cart"}}}}`,
		"-A --host":    `clustertracesessions  {"gadget":{"name":"watch_moon"},"output":{"stream":{"retain":100000,"retainBytes":"8Mi"}},"selector":{"host":true}}`,
		"--node node1": `tracesessions shop {"gadget":{"name":"watch_moon"},"output":{"stream":{"retain":100000,"retainBytes":"8Mi"}}}`,
		"-A --node node1": `clustertracesessions  {"gadget":{"name":"watch_moon"},"output":{"stream":{"retain":100000,"retainBytes":"8Mi"}},` +
			`"selector":{"nodeNames":["node1"]}}`,
		"-n shop,bank": "",
	} {
		t.Run(flags, func(t *testing.T) {
			f := &fakeRelay{specs: []*gadget.Spec{moonSpec}}
			server := clustertest.New(t, f)
			made := ""
			var attach *wire.Attach
			f.play = func(s *relayStage) error {
				if attach = f.started().GetAttach(); attach != nil {
					resource := "tracesessions"
					if attach.GetNamespace() == "" {
						resource = "clustertracesessions"
					}
					object := server.Object(resource, attach.GetNamespace(), attach.GetName())
					require.Equal(t, "true", object["metadata"].(map[string]any)["labels"].(map[string]any)["nodegadget.dev/interactive"])
					spec, err := json.Marshal(object["spec"])
					require.NoError(t, err)
					made = resource + " " + attach.GetNamespace() + " " + string(spec)
				}
				return moonlight(s)
			}
			r := call(t, append([]string{"watch", "moon", "--kubeconfig", server.Kubeconfig}, strings.Fields(flags)...)...)
			require.Zero(t, r.status, r.err)
			require.Equal(t, want, made)
			if attach == nil {
				require.Equal(t, []string{"shop", "bank"}, f.started().GetSelector().GetNamespaces(), "a session is of one namespace or of all")
				return
			}
			require.Nil(t, server.Object("tracesessions", attach.GetNamespace(), attach.GetName()))
			require.Nil(t, server.Object("clustertracesessions", "", attach.GetName()))
		})
	}
}

// TestParametersKeepTheirNames though there are flags of the same name.
func TestParametersKeepTheirNames(t *testing.T) {
	spec := &gadget.Spec{Name: "watch_moon", Description: "x", Source: moonSpec.Source}
	for _, name := range []string{"user", "host", "node", "server", "output"} {
		spec.Params = append(spec.Params, gadget.Param{Name: name, Doc: name, Kind: gadget.Uint, Size: 4, Default: "0"})
	}
	f := &fake{specs: []*gadget.Spec{spec}, play: func(s *stage) error { return s.end(0, nil) }}
	r := call(t, "watch", "moon", "--agent", serve(t, f), "--user", "1", "--host", "2", "--node", "3", "--server=4", "--output", "none")
	require.Zero(t, r.status, r.err)
	require.Equal(t, map[string]string{"user": "1", "host": "2", "node": "3", "server": "4"}, f.start.GetParams())
	require.Empty(t, r.out)
}
