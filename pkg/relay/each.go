// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// Each calls run in a goroutine of its own for every agent that is there or comes to
// be. The context that run gets ends when the agent is gone or replaced, and of one that
// can't be reached every call fails and says why. Each returns when ctx has ended and
// all runs have returned.
func (f *Fleet) Each(ctx context.Context, run func(ctx context.Context, node string, agent wire.AgentClient)) {
	var runs sync.WaitGroup
	defer runs.Wait()
	// Ends are called by this goroutine only.
	ends := map[*member]context.CancelFunc{}
	for {
		members, changed := f.all(nil)
		there := make(map[*member]bool, len(members))
		for _, m := range members {
			there[m] = true
		}
		for m, end := range ends {
			if !there[m] {
				end()
				delete(ends, m)
			}
		}
		for _, m := range members {
			if ends[m] == nil {
				var while context.Context
				while, ends[m] = context.WithCancel(ctx)
				runs.Go(func() { run(while, m.Node, m.agent()) })
			}
		}
		select {
		case <-ctx.Done():
			for _, end := range ends {
				end()
			}
			return
		case <-changed:
		}
	}
}

// agent is the member's client, also if there is no connection.
func (m *member) agent() wire.AgentClient {
	if m.client != nil {
		return m.client
	}
	return wire.NewAgentClient(unconnected{unreachable(m)})
}

// unconnected is the connection to an agent that can't be reached.
type unconnected struct{ problem string }

// Invoke is part of grpc.ClientConnInterface.
func (u unconnected) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, u.problem)
}

// NewStream is part of grpc.ClientConnInterface.
func (u unconnected) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unavailable, u.problem)
}
