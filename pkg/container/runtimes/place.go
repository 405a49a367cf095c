// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/container/containerd"
	"nodegadget.dev/pkg/container/cri"
	"nodegadget.dev/pkg/container/runtimes/socket"
)

// errNotLooked is a place's error before it was first looked at.
var errNotLooked = fmt.Errorf("not looked for yet: %w", fs.ErrNotExist)

// place is where a runtime's socket may be. Its connection is kept once it is made:
// it is established anew by itself when the runtime was restarted.
type place struct {
	socket   socket.Socket
	timeout  time.Duration
	identity socket.Identity
	conn     *grpc.ClientConn

	// runtime is nil until who listens has said who it is; err is why it can't be
	// asked now. Resolver.mu guards both.
	runtime runtime
	err     error
}

// runtime is what both kinds of resolvers are.
type runtime interface {
	container.Resolver
	// Probe asks the runtime who it is, for Name.
	Probe(ctx context.Context) error
}

func (p *place) close() {
	if p.conn != nil {
		p.conn.Close()
	}
}

// look looks at every place. Unless all is set it leaves those in peace that are as
// they were found, and does nothing if that was just done.
func (r *Resolver) look(ctx context.Context, all bool) {
	r.looking.Lock()
	defer r.looking.Unlock()
	if !all && time.Since(r.looked) < lookAgain {
		return
	}
	before := r.Name()
	for _, p := range r.places {
		found, err := p.look(ctx, all || r.doubts(p))
		if isOver(ctx) {
			return // Who asks has no more time: that isn't the runtime's fault.
		}
		r.note(p, found, err)
	}
	if after := r.Name(); after != before || r.looked.IsZero() {
		r.opts.Log.Info("looked for container runtimes", "found", after)
	}
	r.looked = time.Now()
}

// doubts says whether a place's runtime didn't answer when it was last asked.
func (r *Resolver) doubts(p *place) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.err != nil
}

// note remembers what was found at a place. A runtime that doesn't answer any more
// is still asked, as it may be back at any moment, but not one whose socket is gone.
func (r *Resolver) note(p *place, found runtime, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.err = err
	switch {
	case found != nil:
		p.runtime = found
	case isMissing(err):
		p.runtime = nil
	}
}

// look says who listens at a place, without asking if the socket is the same and
// nothing else speaks for that. The caller holds Resolver.looking.
func (p *place) look(ctx context.Context, ask bool) (runtime, error) {
	identity, err := p.socket.Identity()
	if err != nil {
		p.identity = socket.Identity{}
		return nil, err
	}
	same := identity == p.identity
	if same && !ask {
		return p.runtime, nil
	}
	if p.conn == nil {
		if p.conn, err = p.socket.Connect(); err != nil {
			return nil, err
		}
	}
	if !same {
		p.reconnect(ctx)
		p.identity = identity
	}
	found, err := p.recognise(ctx)
	if err != nil {
		err = p.explain(ctx, err)
	}
	return found, err
}

// reconnect is for when somebody listens who didn't when connecting last failed. As
// long as the connection's state says that it failed, calls fail for that old reason.
func (p *place) reconnect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reconnectTimeout)
	defer cancel()
	p.conn.ResetConnectBackoff()
	p.conn.WaitForStateChange(ctx, connectivity.TransientFailure)
}

// explain makes gRPC's errors, which are as much wrapping as text, readable: most
// often nobody listens, which is said best by trying that alone.
func (p *place) explain(ctx context.Context, err error) error {
	conn, dialErr := p.socket.Dial(ctx)
	if dialErr != nil {
		return dialErr
	}
	conn.Close()
	return fmt.Errorf("%s: %s", p.socket.Path, status.Convert(err).Message())
}

// recognise asks who listens. What isn't containerd may be any runtime with CRI.
// containerd isn't asked through CRI, though it has that: it knows less there.
func (p *place) recognise(ctx context.Context) (runtime, error) {
	if p.runtime != nil {
		if err := p.runtime.Probe(ctx); !isOther(err) {
			return p.runtime, err
		}
	}
	native, err := containerd.New(containerd.Options{Conn: p.conn, Socket: p.socket.Path, Timeout: p.timeout})
	if err != nil {
		return nil, err
	}
	err = native.Probe(ctx)
	if !isOther(err) {
		return probed(native, err)
	}
	other := cri.New(cri.Options{Conn: p.conn, Socket: p.socket.Path, Timeout: p.timeout})
	return probed(other, other.Probe(ctx))
}

// probed is the runtime unless there is an error.
func probed(found runtime, err error) (runtime, error) {
	if err != nil {
		return nil, err
	}
	return found, nil
}

// isOver is true as soon as the deadline has passed, which ctx itself may tell later.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// isOther says that somebody answered, but isn't who was asked for.
func isOther(err error) bool {
	return errdefs.IsNotImplemented(err) || status.Code(err) == codes.Unimplemented
}

// isMissing says that there is no socket, whatever there is instead.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
