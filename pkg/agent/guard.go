// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"nodegadget.dev/pkg/pki"
)

// maxStrangers is how many connections there may be of peers that have not proven yet
// who they are. The oldest give way: a peer that means it takes milliseconds.
const maxStrangers = 128

// Listen makes the socket that clients connect to: "unix:///path", see the function of
// that name, or "tcp://host:port" if the agent has a certificate.
func (a *Agent) Listen(address, group string) (net.Listener, error) {
	host, ok := strings.CutPrefix(address, "tcp://")
	if !ok {
		return Listen(address, group)
	}
	if a.pair == nil {
		return nil, errors.New("on TCP the agent serves only the controller, by mutual TLS: name it with --controller, --authority and --token, or listen at unix:///path")
	}
	listener, err := net.Listen("tcp", host)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return listener, nil
}

// guard lets in only the controller, if the agent has a certificate to show. On a unix
// socket its permissions decide who gets in.
func (a *Agent) guard(listener net.Listener) (net.Listener, []grpc.ServerOption) {
	if a.pair == nil || listener.Addr().Network() == "unix" {
		return listener, nil
	}
	g := &guard{Listener: listener, limit: maxStrangers, strangers: list.New()}
	// Strangers decide how often this is logged.
	refusals := rate.NewLimiter(1, 10)
	base := pki.ServerConfig(a.pair, a.roots, pki.Controller)
	base.NextProtos = []string{"h2"}
	outer := base.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config := base.Clone()
		config.VerifyConnection = func(state tls.ConnectionState) error {
			err := base.VerifyConnection(state)
			switch {
			case err == nil:
				g.admit(hello.Conn)
				a.opts.Log.Info("peer connected", "peer", hello.Conn.RemoteAddr().String(), "identity", string(pki.Controller))
			case refusals.Allow():
				a.opts.Log.Warn("peer refused", "peer", hello.Conn.RemoteAddr().String(), "error", err)
			}
			return err
		}
		return config, nil
	}
	return g, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(outer))}
}

// guard bounds the number of strangers' connections.
type guard struct {
	net.Listener
	limit int

	mu        sync.Mutex
	strangers *list.List // of *stranger, the oldest first
}

// stranger is a connection; it is in the list until its peer has proven who it is.
type stranger struct {
	net.Conn
	guard   *guard
	element *list.Element
}

// Accept is part of net.Listener.
func (g *guard) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &stranger{Conn: conn, guard: g}
	if oldest := g.enter(s); oldest != nil {
		oldest.Close()
	}
	return s, nil
}

// enter returns the connection that has to give way, if there are too many.
func (g *guard) enter(s *stranger) *stranger {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.element = g.strangers.PushBack(s)
	if g.strangers.Len() <= g.limit {
		return nil
	}
	oldest, _ := g.strangers.Front().Value.(*stranger)
	return oldest
}

// admit says that a connection's peer is who it should be.
func (g *guard) admit(conn net.Conn) {
	if s, ok := conn.(*stranger); ok {
		s.leave()
	}
}

func (s *stranger) leave() {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	if s.element != nil {
		s.guard.strangers.Remove(s.element)
		s.element = nil
	}
}

// Close is part of net.Conn.
func (s *stranger) Close() error {
	s.leave()
	return s.Conn.Close()
}
