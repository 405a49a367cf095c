// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/gadget"
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
	require.Equal(t, []string{"shop"}, f.started().GetSelector().GetNamespaces(), "the current namespace")
	require.False(t, f.started().GetSelector().GetHost())

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
			&wire.Selector{Namespaces: []string{"shop"}, Pods: []string{"cart-1", "cart-2"}, Containers: []string{"web"}, Labels: "app=cart,tier!=cache"},
			[]string{"node2"},
		},
		{"--podname cart-1 --containername web --selector app=cart --node node1,node2 --all-namespaces", &wire.Selector{
			Pods: []string{"cart-1"}, Containers: []string{"web"}, Labels: "app=cart",
		}, []string{"node1", "node2"}},
	} {
		t.Run(test.args, func(t *testing.T) {
			f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: moonlight}
			r := callCluster(t, f, append([]string{"watch", "moon"}, strings.Fields(test.args)...)...)
			require.Zero(t, r.status, r.err)
			got := f.started().GetSelector()
			require.Equal(t, test.want.String(), got.String())
			require.Equal(t, test.nodes, f.started().GetNodes())
		})
	}
}

// TestFlagsBeforeTheGadget: kubectl's users write some of them first.
func TestFlagsBeforeTheGadget(t *testing.T) {
	f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: moonlight}
	s := clustertest.New(t, f)
	r := call(t, "--kubeconfig", s.Kubeconfig, "-n", "bank", "watch", "moon")
	require.Zero(t, r.status, r.err)
	require.Equal(t, []string{"bank"}, f.started().GetSelector().GetNamespaces())
	f.requests = nil
	r = call(t, "--kubeconfig", s.Kubeconfig, "-A", "watch", "moon")
	require.Zero(t, r.status, r.err)
	require.Empty(t, f.started().GetSelector().GetNamespaces())
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

// TestRowsOfAnIntervalComeTogether, from all nodes, and are sorted and limited as one.
func TestRowsOfAnIntervalComeTogether(t *testing.T) {
	play := func(s *relayStage) error {
		for _, err := range []error{
			s.send(0, sessionOf("node1", "node2")),
			s.send(1, headerOf("node1", 0, rowsSpec)), s.send(2, headerOf("node2", 0, rowsSpec)), s.send(1, cartOf()),
			s.send(1, recordsOf(false, 11, row{name: "a", count: 5}.record())),
			s.send(2, recordsOf(true, 12, row{name: "b", count: 9}.record())),
			s.send(1, recordsOf(true, 11, row{name: "c", count: 7}.record())),
			s.send(1, recordsOf(true)),
			s.send(2, recordsOf(true, 12, row{name: "d", count: 1}.record(), 12, row{name: "e", count: 2}.record())),
			// The last interval of node2 doesn't come.
			s.send(1, recordsOf(true, 11, row{name: "f"}.record())), s.send(2, goneOf("node2", "the agent doesn't answer")),
			s.send(1, endOf(0, nil)), s.send(0, endOf(6, nil)),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for args, want := range map[string]string{
		"": "a c b d e f", "--sort -count": "b c a e d f", "--sort -count --max-entries 1": "b e f",
		"--sort -count --max-events 4": "b c a e",
	} {
		f := &fakeRelay{specs: []*gadget.Spec{rowsSpec}, play: play}
		r := callCluster(t, f, append([]string{"top", "rows", "-o", "json"}, strings.Fields(args)...)...)
		require.Zero(t, r.status, r.err)
		var got []string
		for line := range strings.Lines(r.out) {
			var object struct{ Name, Node string }
			require.NoError(t, json.Unmarshal([]byte(line), &object))
			require.Equal(t, map[bool]string{true: "node2", false: "node1"}[strings.Contains("bde", object.Name)], object.Node)
			got = append(got, object.Name)
		}
		require.Equal(t, want, strings.Join(got, " "), args)
		require.Contains(t, r.err, "node node2: gone: the agent doesn't answer\n")
	}
	f := &fakeRelay{specs: []*gadget.Spec{rowsSpec}, play: play}
	r := callCluster(t, f, "top", "rows", "--fields", "node,name,count", "--sort", "-count")
	require.Zero(t, r.status, r.err)
	golden(t, "cluster-rows.txt", r.out)
}

// TestNodeThatIsLateIsNotWaitedFor longer than half an interval more.
func TestNodeThatIsLateIsNotWaitedFor(t *testing.T) {
	shown := make(chan struct{})
	f := &fakeRelay{specs: []*gadget.Spec{rowsSpec}, play: func(s *relayStage) error {
		for _, err := range []error{
			s.send(0, sessionOf("node1", "node2")),
			s.send(1, headerOf("node1", 0, rowsSpec)), s.send(2, headerOf("node2", 0, rowsSpec)), s.send(1, cartOf()),
			s.send(1, recordsOf(true, 11, row{name: "a"}.record())),
		} {
			if err != nil {
				return err
			}
		}
		<-shown // Before anything comes of node2.
		return s.send(0, endOf(1, nil))
	}}
	out := &watcher{want: `"name":"a"`, seen: shown}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := run(ctx, ctx, []string{
		"top", "rows", "-o", "json", "--interval", "100ms", "--kubeconfig", clustertest.New(t, f).Kubeconfig,
	}, Streams{Out: out, Err: &bytes.Buffer{}})
	require.Zero(t, got)
}

// watcher closes seen when what it wants has been written.
type watcher struct {
	bytes.Buffer
	want string
	seen chan struct{}
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.seen != nil && strings.Contains(w.String(), w.want) {
		close(w.seen)
		w.seen = nil
	}
	return n, err
}

func TestWhatHappenedToNodesIsSaid(t *testing.T) {
	begin := func(s *relayStage) error {
		if err := s.send(0, sessionOf("node1", "node2", "node3")); err != nil {
			return err
		}
		return s.send(1, headerOf("node1", 0, moonSpec), cartOf())
	}
	for _, test := range []struct {
		name   string
		args   string
		play   func(s *relayStage) error
		status int
		want   string
	}{
		{
			"refused, gone and lossy", "--fail-on-loss", func(s *relayStage) error {
				for _, err := range []error{
					begin(s), s.send(2, goneOf("node2", "no BTF for kernel 4.19\x1b[2J")), s.send(3, headerOf("node3", 0, moonSpec)),
					s.send(3, goneOf("node3", "its agent is gone")),
					s.send(0, recordsOf(false, 11, moon(1, "new"))),
					s.send(1, endOf(4, &wire.Loss{Kernel: 1, Queue: 2})), s.send(0, endOf(7, &wire.Loss{Kernel: 1, Queue: 2, Relay: 3})),
				} {
					if err != nil {
						return err
					}
				}
				return nil
			}, 1,
			"node node2: gone: no BTF for kernel 4.19\\x1b[2J\nnode node3: gone: its agent is gone\n" +
				"node node1: 3 lost (1 in the kernel's buffer, 2 in the agent's queue)\n" +
				"node node2: didn't take part: no BTF for kernel 4.19\\x1b[2J\nnode node3: gone: its agent is gone\n" +
				"1 event, 7 lost (1 in the kernel's buffer, 2 in the agent's queue, 3 in the relay, 1 on the way)\n" +
				"kubectl-gadget: 7 events were lost\n",
		},
		{
			"back", "--fail-on-loss", func(s *relayStage) error {
				for _, err := range []error{
					begin(s), s.send(1, goneOf("node1", "its agent is gone")), s.send(1, headerOf("node1", 0, moonSpec)),
					s.send(2, headerOf("node2", 0, moonSpec)), s.send(3, headerOf("node3", 0, moonSpec)),
					s.send(1, &wire.RunResponse{Response: &wire.RunResponse_Notice{Notice: &wire.Notice{Text: "hello"}}}),
					s.send(1, endOf(0, nil)), s.send(0, endOf(0, &wire.Loss{Withheld: 2})),
				} {
					if err != nil {
						return err
					}
				}
				return nil
			}, 1,
			"node node1: gone: its agent is gone\nnode node1: back\nnode node1: hello\nnode node1: was away for a while\n" +
				"0 events, 0 lost, 2 withheld because nobody knows whose they are\nkubectl-gadget: 2 events were withheld\n",
		},
		{
			"nobody begins", "", func(s *relayStage) error {
				for _, err := range []error{
					s.send(0, sessionOf("node1")), s.send(1, goneOf("node1", "there is no agent")),
				} {
					if err != nil {
						return err
					}
				}
				<-s.stopped
				return s.send(0, endOf(0, nil))
			}, 1,
			"node node1: gone: there is no agent\nnode node1: didn't take part: there is no agent\n" +
				"0 events, 0 lost\nkubectl-gadget: the gadget runs on no node\n",
		},
		{
			"all refuse", "", func(*relayStage) error { return status.Error(codes.InvalidArgument, "no such phase") }, 2,
			"kubectl-gadget: no such phase\n",
		},
		{
			"no right", "", func(*relayStage) error {
				return status.Error(codes.PermissionDenied, "user \"jane\" may not create tracesessions/stream in namespace shop")
			}, 1,
			"kubectl-gadget: user \"jane\" may not create tracesessions/stream in namespace shop\n",
		},
		{
			"fails in the middle", "", func(s *relayStage) error {
				if err := begin(s); err != nil {
					return err
				}
				return status.Error(codes.ResourceExhausted, "the client doesn't read")
			}, 1,
			"node node2: didn't come to begin\nnode node3: didn't come to begin\n0 events, 0 lost\nkubectl-gadget: the client doesn't read\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fakeRelay{specs: []*gadget.Spec{moonSpec}, play: test.play}
			r := callCluster(t, f, append([]string{"watch", "moon", "-o", "none"}, strings.Fields(test.args)...)...)
			require.Equal(t, test.status, r.status)
			require.Equal(t, test.want, r.err)
		})
	}
}

// TestBrokenConnectionIsResumed, and what is missing is said.
func TestBrokenConnectionIsResumed(t *testing.T) {
	var s *clustertest.Server
	f := &fakeRelay{specs: []*gadget.Spec{moonSpec}}
	f.play = func(st *relayStage) error {
		if resume := st.request.GetResume(); resume != nil {
			again := sessionOf("node1")
			again.GetSession().MissedMessages, again.GetSession().MissedRecords = 1, 2
			st.sequence = resume.GetAfter()
			for _, err := range []error{
				st.send(0, again), st.send(0, recordsOf(false, 11, moon(9, "new"))), st.send(1, endOf(4, nil)), st.send(0, endOf(4, nil)),
			} {
				if err != nil {
					return err
				}
			}
			return nil
		}
		for _, err := range []error{
			st.send(0, sessionOf("node1")), st.send(1, headerOf("node1", 0, moonSpec), cartOf()), st.send(0, recordsOf(false, 11, moon(1, "new"))),
		} {
			if err != nil {
				return err
			}
		}
		time.AfterFunc(100*time.Millisecond, s.Break)
		<-st.stream.Context().Done()
		return nil
	}
	s = clustertest.New(t, f)
	r := call(t, "watch", "moon", "-o", "json", "--kubeconfig", s.Kubeconfig)
	require.Zero(t, r.status, r.err)
	require.Equal(t, 2, strings.Count(r.out, "\n"))
	require.Contains(t, r.err, "connection lost: ")
	require.Contains(t, r.err, "connected again, 2 records are missing\n")
	require.True(t, strings.HasSuffix(r.err, "2 events, 2 lost (0 in the kernel's buffer, 0 in the agent's queue, 2 while the connection was broken)\n"), r.err)
	require.NotContains(t, r.err, "rpc error")
	require.NotNil(t, f.requests[1].GetResume())
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
	require.Equal(t, map[string]string{"moonlit": "true"}, f.started().GetParams())
	require.Contains(t, r.out, "new")
	r = callCluster(t, f, "trace", "open", "--sunlit")
	require.Equal(t, 2, r.status)
	require.Contains(t, r.err, "unknown flag: --sunlit")
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

func TestCompletionAsksTheCluster(t *testing.T) {
	s := clustertest.New(t, &fakeRelay{})
	s.Namespaces = []metav1.ObjectMeta{{Name: "shop"}, {Name: "bank"}}
	s.Nodes = []metav1.ObjectMeta{{Name: "node1"}, {Name: "node2"}}
	s.Pods = []metav1.ObjectMeta{{Namespace: "shop", Name: "cart-1"}, {Namespace: "bank", Name: "safe"}}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"trace", "exec", "-n", ""}, "bank shop"},
		{[]string{"trace", "exec", "--namespace", "b"}, "bank"},
		{[]string{"trace", "exec", "--namespace=b"}, "--namespace=bank"},
		{[]string{"trace", "exec", "-n", "bank,s"}, "bank,shop"},
		{[]string{"trace", "exec", "-p", ""}, "cart-1"},
		{[]string{"trace", "exec", "-n", "bank", "-p", ""}, "safe"},
		{[]string{"trace", "exec", "-A", "--podname", ""}, "cart-1 safe"},
		{[]string{"trace", "exec", "-c", "s"}, "side"},
		{[]string{"trace", "exec", "--node", ""}, "node1 node2"},
		{[]string{"trace", "exec", "--context", ""}, "test"},
		{[]string{"status", "--gadget-namespace", ""}, "bank shop"},
		{[]string{"doctor", "--node", ""}, "node1 node2"},
	} {
		args := append([]string{"__complete", test.args[0]}, append([]string{"--kubeconfig", s.Kubeconfig}, test.args[1:]...)...)
		if test.args[0] == "trace" {
			args = append([]string{"__complete", "trace", "exec", "--kubeconfig", s.Kubeconfig}, test.args[2:]...)
		}
		r := call(t, args...)
		require.Zero(t, r.status, r.err)
		words := strings.Fields(strings.ReplaceAll(r.out, "\t", " "))
		require.Equal(t, test.want, strings.Join(words[:len(words)-1], " "), test.args)
	}
	// A cluster that doesn't answer has nothing to complete.
	r := call(t, "__complete", "trace", "exec", "--kubeconfig", filepath.Join(t.TempDir(), "none"), "-n", "")
	require.Zero(t, r.status)
	require.Equal(t, ":4\n", r.out)
}
