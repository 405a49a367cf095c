// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/cluster/clustertest"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

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
