// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"nodegadget.dev/pkg/wire"
)

// DefaultRetry is how long a run whose connection broke is tried to be resumed. It
// is longer than a relay remembers a session: a restarted relay begins another.
const DefaultRetry = 5 * time.Minute

// RelayOptions say how a relay is reached.
type RelayOptions struct {
	// Dial makes a connection to the relay. Required. Its errors are handed on.
	Dial func(context.Context) (net.Conn, error)
	// TLS proves that it is the relay. Required: Headers may hold the caller's token.
	TLS *tls.Config
	// Headers are sent with each call, as HTTP headers would be; nil for none.
	Headers func(context.Context) (http.Header, error)
	// Retry is how long a broken run is tried to be resumed; 0: DefaultRetry.
	Retry time.Duration
}

// DialRelay connects to a relay. Whether it is there shows at the first call.
func DialRelay(opts RelayOptions) (*Conn, error) {
	if opts.TLS == nil {
		return nil, errors.New("a relay is not spoken to without TLS")
	}
	c := &Conn{retry: opts.Retry}
	if c.retry == 0 {
		c.retry = DefaultRetry
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := opts.Dial(ctx)
		c.note(err)
		return conn, err
	}
	options := []grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(&handshake{TransportCredentials: credentials.NewTLS(opts.TLS), conn: c}),
		// A dead connection has to be noticed while the relay still remembers the session.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// When to try again is up to the run.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second},
			MinConnectTimeout: attemptTimeout,
		}),
	}
	if opts.Headers != nil {
		options = append(options, sendHeaders(opts.Headers)...)
	}
	if err := c.open("passthrough:///nodegadget-controller", options); err != nil {
		return nil, err
	}
	c.relay = wire.NewRelayClient(c.grpc)
	return c, nil
}

// note remembers how the last attempt to connect ended.
func (c *Conn) note(err error) {
	if err == nil {
		c.dialing.Store(nil)
		return
	}
	c.dialing.Store(&err)
}

// handshake notes why TLS refuses a peer.
type handshake struct {
	credentials.TransportCredentials
	conn *Conn
}

func (h *handshake) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		err = fmt.Errorf("making sure that it is the relay: %w", err)
	}
	h.conn.note(err)
	return conn, info, err
}

func (h *handshake) Clone() credentials.TransportCredentials {
	return &handshake{TransportCredentials: h.TransportCredentials.Clone(), conn: h.conn}
}

// sendHeaders adds headers to each call. gRPC's own per-call credentials know one
// value for each name, but somebody may be in several groups.
func sendHeaders(headers func(context.Context) (http.Header, error)) []grpc.DialOption {
	with := func(ctx context.Context) (context.Context, error) {
		h, err := headers(ctx)
		if err != nil {
			return nil, err
		}
		md, err := toMetadata(h)
		if err != nil {
			return nil, err
		}
		return metadata.NewOutgoingContext(ctx, md), nil
	}
	unary := func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, err := with(ctx)
		if err != nil {
			return err
		}
		return invoke(ctx, method, request, reply, cc, opts...)
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, err := with(ctx)
		if err != nil {
			return nil, err
		}
		return open(ctx, desc, cc, method, opts...)
	}
	return []grpc.DialOption{grpc.WithUnaryInterceptor(unary), grpc.WithStreamInterceptor(stream)}
}

// toMetadata makes metadata of headers. gRPC takes fewer characters in names than
// HTTP; saying so is better than leaving a name out.
func toMetadata(headers http.Header) (metadata.MD, error) {
	md := metadata.MD{}
	for name, values := range headers {
		key := strings.ToLower(name)
		if strings.ContainsFunc(key, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
		}) {
			return nil, fmt.Errorf("header %q can't be sent to the relay: gRPC doesn't take its name", name)
		}
		md.Append(key, values...)
	}
	return md, nil
}
