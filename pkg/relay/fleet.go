// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"nodegadget.dev/pkg/wire"
)

// upTimeout is how long is waited for a connection that is down, when somebody asks.
const upTimeout = time.Second

// Agent says where the agent of a node is.
type Agent struct {
	Node string
	// Address is host:port; empty if the agent can't be reached.
	Address string
	// Problem says why there is no address.
	Problem string
}

// Fleet is the agents of a cluster and the connections to them. Its methods may be
// called concurrently.
type Fleet struct {
	tls func(node string) (*tls.Config, error)
	// watchers keep connections up; Close waits for them.
	watchers sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member
	// changed is closed, and replaced, whenever members change.
	changed chan struct{}
}

// member is an agent with its connection. It doesn't change; another address makes
// another member.
type member struct {
	Agent
	client wire.AgentClient
	conn   *grpc.ClientConn
	close  context.CancelFunc
}

// NewFleet makes a fleet without agents. The configurations that it is given must
// verify that the peer is the node's agent.
func NewFleet(config func(node string) (*tls.Config, error)) *Fleet {
	return &Fleet{tls: config, members: map[string]*member{}, changed: make(chan struct{})}
}

// Set replaces the agents. Runs on those that are gone end, and new ones are included
// in the runs that want them.
func (f *Fleet) Set(agents []Agent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := false
	wanted := map[string]bool{}
	for _, agent := range agents {
		wanted[agent.Node] = true
		if old := f.members[agent.Node]; old == nil || old.Agent != agent {
			f.remove(agent.Node)
			f.members[agent.Node] = f.connect(agent)
			changed = true
		}
	}
	for node := range f.members {
		if !wanted[node] {
			f.remove(node)
			changed = true
		}
	}
	if changed {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// Close ends all connections.
func (f *Fleet) Close() {
	f.Set(nil)
	f.watchers.Wait()
}

func (f *Fleet) remove(node string) {
	if m := f.members[node]; m != nil {
		m.close()
		delete(f.members, node)
	}
}

// connect doesn't wait for the connection. What can't even be tried becomes the
// agent's problem.
func (f *Fleet) connect(agent Agent) *member {
	m := &member{Agent: agent, close: func() {}}
	if agent.Address == "" {
		return m
	}
	config, err := f.tls(agent.Node)
	if err == nil {
		m.conn, err = grpc.NewClient("passthrough:///"+agent.Address, dialOptions(config)...)
	}
	if err != nil {
		m.Problem = err.Error()
		return m
	}
	m.client = wire.NewAgentClient(m.conn)
	ctx, cancel := context.WithCancel(context.Background())
	m.close = func() {
		cancel()
		// There is nothing to do about an error of a connection that is given up.
		_ = m.conn.Close()
	}
	f.watchers.Go(func() { m.keepUp(ctx) })
	return m
}

func dialOptions(config *tls.Config) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithInitialWindowSize(wire.Window),
		grpc.WithInitialConnWindowSize(wire.Window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)),
		grpc.WithIdleTimeout(0),
		// A node that vanished is noticed within 17 seconds. Agents hang up on who asks
		// more often than every ten.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 12 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}

// keepUp connects whenever the connection is down, so that a run doesn't have to wait
// for it, and that it is known which agents answer.
func (m *member) keepUp(ctx context.Context) {
	for {
		state := m.conn.GetState()
		if state == connectivity.Idle {
			m.conn.Connect()
		}
		if !m.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// awaitUp gives a connection that was down another chance at once: its agent may have
// come to be able to answer since the last attempt, after which the next one is put off.
func (m *member) awaitUp(ctx context.Context) {
	if m.up() || m.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	m.conn.ResetConnectBackoff()
	for state := m.conn.GetState(); state != connectivity.Ready && m.conn.WaitForStateChange(ctx, state); {
		state = m.conn.GetState()
	}
}

// up says whether the agent is connected.
func (m *member) up() bool { return m.conn != nil && m.conn.GetState() == connectivity.Ready }

// get returns the agent of a node, nil if there is none, and what is closed when that
// may have changed.
func (f *Fleet) get(node string) (*member, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[node], f.changed
}

// all returns the agents of the nodes named, or of all, by name.
func (f *Fleet) all(nodes []string) ([]*member, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var members []*member
	for _, m := range f.members {
		if len(nodes) == 0 || slices.Contains(nodes, m.Node) {
			members = append(members, m)
		}
	}
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.Node, b.Node) })
	return members, f.changed
}
