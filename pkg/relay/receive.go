// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/wire"
)

// receive reads the stream to its end, which it returns.
func (n *node) receive(ctx context.Context, stream grpc.BidiStreamingClient[wire.RunRequest, wire.RunResponse], late *time.Timer) (*wire.RunResponse, error) {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("its agent has ended the run before it began")
	}
	if err != nil {
		return nil, err
	}
	late.Stop()
	if n.session.attaches() && first.GetEnd() != nil {
		return nil, errLacks
	}
	clock, err := n.begin(ctx, first.GetHeader())
	if err != nil {
		return nil, err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("its agent has ended the run without saying so")
		}
		if err != nil {
			return nil, err
		}
		n.heard.Add(1)
		message.Node = n.number
		if end := message.GetEnd(); end != nil {
			n.counted(end.GetRecords(), end.GetLoss())
			return message, nil
		}
		if err = n.handle(ctx, clock, message); err != nil {
			return nil, err
		}
	}
}

// begin checks the header and passes it on.
func (n *node) begin(ctx context.Context, header *wire.Header) (*clock, error) {
	if header == nil {
		return nil, errors.New("its agent's first message is not a header")
	}
	if err := wire.CheckVersion(header.GetProtocol()); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if n.session.start.GetSelector() != nil && header.GetProtocol().GetMinor() < 1 {
		// It has ignored the selector, and would send what the client may not see.
		return nil, status.Error(codes.FailedPrecondition, "its agent is too old to select containers: update it")
	}
	if n.session.attaches() && header.GetProtocol().GetMinor() < 2 {
		return nil, errTooOld
	}
	if header.Node == nil {
		header.Node = &wire.Node{}
	}
	// Its certificate says who it is.
	header.Node.Name = n.name
	n.refs.reset()
	n.told = ""
	n.session.mu.Lock()
	n.state, n.header = running, header
	n.session.mu.Unlock()
	n.session.poke()
	return clockOf(header), n.pass(ctx, parcel{message: &wire.RunResponse{
		Node: n.number, Response: &wire.RunResponse_Header{Header: header},
	}})
}

// clockOf is nil if records can't be put in order with those of other nodes.
func clockOf(header *wire.Header) *clock {
	offset, ok := header.TimeOffset()
	if !ok {
		return nil
	}
	return &clock{offset: offset, boot: header.GetBootTime()}
}

// handle takes one message of the agent's.
func (n *node) handle(ctx context.Context, clock *clock, message *wire.RunResponse) error {
	switch r := message.GetResponse().(type) {
	case *wire.RunResponse_Batch:
		return n.batch(ctx, clock, message, r.Batch)
	case *wire.RunResponse_Containers:
		n.refs.explain(r.Containers.GetContainers())
		return n.explain(ctx)
	case *wire.RunResponse_Loss:
		n.counted(0, r.Loss)
		return n.pass(ctx, parcel{message: message})
	case *wire.RunResponse_Notice:
		return n.pass(ctx, parcel{message: message})
	case *wire.RunResponse_Replayed:
		// Of all nodes, the client hears from the merger.
		err := n.pass(ctx, parcel{replayed: true})
		n.share = nil
		return err
	}
	// What this relay doesn't know it could not put right for the client.
	return nil
}

func (n *node) batch(ctx context.Context, clock *clock, message *wire.RunResponse, b *wire.Batch) error {
	if err := n.remap(b); err != nil {
		return err
	}
	if n.session.attaches() {
		n.see(clock, b)
	}
	if n.session.replays() {
		n.receivedBatch(b)
	} else {
		n.counted(b.GetSequence()+uint64(b.GetCount()), nil)
	}
	n.session.relay.records.Add(uint64(b.GetCount()))
	if err := n.explain(ctx); err != nil {
		return err
	}
	if clock == nil {
		return n.pass(ctx, parcel{message: message})
	}
	return n.pass(ctx, parcel{clock: clock, records: b.GetRecords(), targets: b.GetTargets()})
}

// counted takes what the agent says it has counted in this run.
func (n *node) counted(records uint64, loss *wire.Loss) {
	n.session.mu.Lock()
	defer n.session.mu.Unlock()
	if loss != nil {
		n.runLoss = loss
	}
	if n.session.replays() {
		records = n.received + n.runLoss.GetQueue()
	}
	n.runRecords = max(n.runRecords, records)
}

// remap puts the session's references in the place of the agent's, and checks the
// batch on the way.
func (n *node) remap(b *wire.Batch) error {
	rest, count := b.GetRecords(), uint32(0)
	for len(rest) >= frame {
		length := uint64(binary.LittleEndian.Uint32(rest))
		if length > uint64(len(rest)-frame) {
			return wire.ErrFraming
		}
		binary.LittleEndian.PutUint32(rest[4:], n.refs.relay(binary.LittleEndian.Uint32(rest[4:])))
		rest = rest[frame+length:]
		count++
	}
	if len(rest) != 0 || count != b.GetCount() || len(b.GetTargets()) != 0 && len(b.GetTargets()) != int(count) {
		return wire.ErrFraming
	}
	for i, target := range b.GetTargets() {
		b.Targets[i] = n.refs.relay(target)
	}
	return nil
}

// explain passes on what references mean, before records that use them.
func (n *node) explain(ctx context.Context) error {
	if message := n.refs.take(); message != nil {
		return n.pass(ctx, parcel{message: message})
	}
	return nil
}
