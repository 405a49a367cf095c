// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/gadget"
)

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
