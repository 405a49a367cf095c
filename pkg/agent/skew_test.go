// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/wire"
)

// TestOlderClient speaks as a client of protocol 1.0 did, which knew neither containers
// nor sessions: it gets what it asks for, and whatever else comes it may pass over.
func TestOlderClient(t *testing.T) {
	n := newTestNode(t, Options{})
	stream, err := n.client.Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Start{Start: &wire.Start{
		Protocol: &wire.Version{Major: 1}, Gadget: "trace_exec", Params: map[string]string{"comm": "true"},
	}}}))
	first, err := stream.Recv()
	require.NoError(t, err)
	require.NotNil(t, first.GetHeader(), "the first message is a header")
	require.EqualValues(t, 1, first.GetHeader().GetProtocol().GetMajor())
	n.container("shop", "cart-1", "web", nil).run("/bin/true", "once")
	require.NoError(t, stream.Send(&wire.RunRequest{Request: &wire.RunRequest_Stop{Stop: &wire.Stop{}}}))
	records := uint64(0)
	for {
		message, err := stream.Recv()
		require.NoError(t, err)
		if batch := message.GetBatch(); batch != nil {
			require.Equal(t, records, batch.GetSequence())
			require.NoError(t, batch.Check())
			records += uint64(batch.GetCount())
		}
		if end := message.GetEnd(); end != nil {
			require.Equal(t, records, end.GetRecords())
			break
		}
	}
	require.NotZero(t, records)
}
