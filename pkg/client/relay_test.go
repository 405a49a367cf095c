// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

func TestManyNodesInOneRun(t *testing.T) {
	r := &relay{acts: []act{{answers: []*wire.RunResponse{
		from(0, 1, session("s", "a", "b", "c")),
		from(1, 2, headerOf("a")), from(2, 3, headerOf("b")),
		from(3, 4, gone("c", "no BTF", nil)),
		from(0, 5, records(0, 4)), from(1, 6, lossOf(&wire.Loss{Queue: 1})),
		from(2, 8, &wire.RunResponse{}), // Of a newer relay.
		from(2, 9, gone("b", "the agent doesn't answer", &wire.Loss{Kernel: 4, Unresolved: 1})),
		from(4, 10, headerOf("d")), // Joins later.
		from(2, 11, headerOf("b")), // Comes back and counts anew.
		from(0, 12, records(6, 2)), // The relay dropped two.
		from(0, 13, lossOf(&wire.Loss{Relay: 1})),
		from(2, 14, end(2, &wire.Loss{Kernel: 1})),
		from(1, 15, end(6, &wire.Loss{Queue: 1, Withheld: 2})), from(4, 16, end(0, nil)),
		from(0, 17, end(10, &wire.Loss{Kernel: 5, Queue: 1, Relay: 2, Unresolved: 1, Withheld: 2, Throttled: 4})),
	}}}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{Gadget: "trace_x"})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Equal(t, []string{
		"session s", "header of a", "header of b", "gone: c: no BTF", "batch", "unknown of a", "unknown of b",
		"gone: b: the agent doesn't answer", "header of d", "header of b", "batch", "unknown", "end of b", "end of a", "end of d", "end",
	}, got)
	counts := map[string]Counts{}
	for _, node := range run.Nodes() {
		require.False(t, node.Live(), node.Name)
		counts[node.Name] = node.Counts()
	}
	require.Equal(t, map[string]Counts{
		"a": {Queue: 1, Withheld: 2}, "b": {Kernel: 5, Unresolved: 1}, "c": {}, "d": {},
	}, counts)
	require.Equal(t, Counts{Received: 6, Kernel: 5, Queue: 1, Relay: 2, Missing: 1, Unresolved: 1, Withheld: 2, Throttled: 4}, run.Counts())
	require.EqualValues(t, 9, run.Counts().Lost())
	require.True(t, run.Ended())
	require.Equal(t, []bool{false, true, false, false}, []bool{
		run.Nodes()[0].Vanished, run.Nodes()[1].Vanished, run.Nodes()[2].Vanished, run.Nodes()[3].Vanished,
	}, "what never began hasn't vanished")
	require.Zero(t, run.Missed())
}

// TestOneBadNodeCostsOnlyItself: a node that sends what can't be used doesn't end
// the run of the others.
func TestOneBadNodeCostsOnlyItself(t *testing.T) {
	hostile := headerOf("h")
	hostile.GetHeader().GetGadget().GetSource().GetFields()[0].Size = 1 << 30
	newer := headerOf("n")
	newer.GetHeader().Protocol = &wire.Version{Major: 2}
	r := &relay{acts: []act{{answers: []*wire.RunResponse{
		from(0, 1, session("s", "a")),
		from(1, 2, hostile), from(2, 3, newer), from(3, 4, headerOf("a")), from(3, 5, end(0, nil)), from(0, 6, end(0, nil)),
	}}}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	got, err := drain(t, run)
	require.NoError(t, err)
	require.Contains(t, got[1], `gone: h: gadget "trace_x": field "n" lies outside`)
	require.Contains(t, got[2], "gone: n: protocol version 2.0 of the peer")
	require.Equal(t, []string{"header of a", "end of a", "end"}, got[3:])
}

func TestDamagedBatchOfARelayIsAnError(t *testing.T) {
	damaged := records(0, 1)
	damaged.GetBatch().Count = 9
	r := &relay{acts: []act{{answers: []*wire.RunResponse{from(0, 1, session("s", "a")), from(1, 2, headerOf("a")), from(0, 3, damaged)}}}}
	run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	_, err = drain(t, run)
	require.ErrorIs(t, err, wire.ErrFraming)
}

func TestRelaysFirstMessageIsASession(t *testing.T) {
	newer := session("s")
	newer.GetSession().Protocol = &wire.Version{Major: 2}
	for want, answers := range map[string][]*wire.RunResponse{
		"the relay's first message is not a session":           {headerOf("a")},
		"the relay ended the run before it began":              nil,
		"protocol version 2.0 of the peer doesn't go with 1.2": {newer},
	} {
		run, err := connectRelay(t, &relay{acts: []act{{answers: answers}}}, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.ErrorContains(t, err, want)
		require.Nil(t, run)
	}
}

func TestWhoIsNotTheRelayGetsNothing(t *testing.T) {
	asked := false
	opts := RelayOptions{Headers: func(context.Context) (http.Header, error) {
		return http.Header{"Authorization": {"Bearer secret"}}, nil
	}}
	identity, err := pki.Agent("node1")
	require.NoError(t, err)
	for name, configs := range map[string]func() (server, client *tls.Config){
		"another authority": func() (*tls.Config, *tls.Config) {
			server, _ := certify(t, pki.Controller)
			_, client := certify(t, pki.Controller)
			return server, client
		},
		"another identity": func() (*tls.Config, *tls.Config) { return certify(t, identity) },
	} {
		t.Run(name, func(t *testing.T) {
			server, client := configs()
			r := &relay{acts: []act{{}}}
			_, err := connectRelayWith(t, r, opts, server, client).Run(t.Context(), &wire.Start{})
			require.ErrorContains(t, err, "making sure that it is the relay")
			require.Empty(t, r.requests)
			require.False(t, asked)
		})
	}
	_, err = DialRelay(RelayOptions{Dial: func(context.Context) (net.Conn, error) { return nil, nil }})
	require.ErrorContains(t, err, "not spoken to without TLS")
}

func TestDialErrorsAreHandedOn(t *testing.T) {
	reason := errors.New("no controller is ready")
	conn := connectRelay(t, &relay{refuse: reason}, RelayOptions{})
	_, err := conn.Nodes(t.Context())
	require.ErrorIs(t, err, reason)
	_, err = conn.Run(t.Context(), &wire.Start{})
	require.ErrorIs(t, err, reason)
}

func TestHeadersGoWithEveryCall(t *testing.T) {
	headers := http.Header{
		"Authorization": {"Bearer t"}, "Impersonate-User": {"jane"}, "Impersonate-Group": {"a", "b"},
		"Impersonate-Extra-scopes": {"x", "y"},
	}
	var fail error
	r := &relay{acts: []act{{answers: []*wire.RunResponse{session("s")}}, {}}}
	conn := connectRelay(t, r, RelayOptions{Headers: func(context.Context) (http.Header, error) { return headers, fail }})
	_, err := conn.Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
	response, err := conn.Nodes(t.Context())
	require.NoError(t, err)
	require.Equal(t, "v9", response.GetRelayVersion())
	for _, got := range r.headers {
		for name, values := range headers {
			require.Equal(t, values, got.Get(name), name)
		}
	}
	headers["Impersonate-Extra-Acme.com%2fproject"] = []string{"z"}
	_, err = conn.Nodes(t.Context())
	require.ErrorContains(t, err, "can't be sent to the relay")
	fail = errors.New("exec plugin: no such file")
	_, err = conn.Run(t.Context(), &wire.Start{})
	require.ErrorContains(t, err, "exec plugin: no such file")
}

// TestRelayOfAnotherMinorVersion: an older one sends fewer messages and fields, a
// newer one others.
func TestRelayOfAnotherMinorVersion(t *testing.T) {
	for _, minor := range []uint32{0, 9} {
		s, h := session("s"), headerOf("a")
		s.GetSession().Protocol.Minor, h.GetHeader().Protocol.Minor = minor, minor
		unknown := records(0, 1)
		unknown.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 2, 'h', 'i'}) // Field 127.
		r := &relay{acts: []act{{answers: []*wire.RunResponse{
			s, from(1, 2, h), from(1, 3, unknown), from(1, 4, &wire.RunResponse{}), from(1, 5, end(1, nil)),
		}}}}
		run, err := connectRelay(t, r, RelayOptions{}).Run(t.Context(), &wire.Start{})
		require.NoError(t, err)
		got, err := drain(t, run)
		require.NoError(t, err)
		require.Equal(t, "session s, header of a, batch of a, unknown of a, end of a", strings.Join(got, ", "))
	}
}

// TestOldAgentCantSelect: it would send everything, and nobody would know.
func TestOldAgentCantSelect(t *testing.T) {
	old := header()
	old.GetHeader().Protocol.Minor = 0
	run, err := connect(t, &script{answers: []*wire.RunResponse{old}}).Run(t.Context(), &wire.Start{Selector: &wire.Selector{}})
	require.ErrorContains(t, err, "the agent is too old to know containers")
	require.Nil(t, run)
	_, err = connect(t, &script{answers: []*wire.RunResponse{old}}).Run(t.Context(), &wire.Start{})
	require.NoError(t, err)
}
