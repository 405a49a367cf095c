// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// dial connects to the relay's port of a pod, through the API server.
func (c *Cluster) dial(ctx context.Context) (net.Conn, error) {
	pod, doubt, err := c.controller(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.dialPod(ctx, pod)
	c.reached(err)
	if err != nil {
		return nil, errors.Join(doubt, err)
	}
	conn.doubt = doubt
	return conn, nil
}

func (c *Cluster) dialPod(ctx context.Context, pod string) (*forwarded, error) {
	type result struct {
		conn *forwarded
		err  error
	}
	// The dialers know no contexts.
	done := make(chan result, 1)
	go func() {
		conn, err := c.forward(pod)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.conn != nil {
				r.conn.Close()
			}
		}()
		return nil, fmt.Errorf("forwarding to pod %s: %w", pod, context.Cause(ctx))
	}
}

// forward opens a connection to the API server, and in it a pair of streams to the
// relay's port of the pod.
func (c *Cluster) forward(pod string) (*forwarded, error) {
	dialer, refused, err := c.dialer(pod)
	if err != nil {
		return nil, fmt.Errorf("forwarding to pod %s: %w", pod, err)
	}
	session, protocol, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	switch {
	case err != nil && (isForbidden(err) || *refused):
		return nil, c.forbidden("create pods/portforward", err)
	case err != nil:
		return nil, fmt.Errorf("forwarding to pod %s: %w", pod, err)
	case protocol != portforward.PortForwardProtocolV1Name:
		session.Close()
		return nil, fmt.Errorf("forwarding to pod %s: the API server speaks %q, not %q", pod, protocol, portforward.PortForwardProtocolV1Name)
	}
	conn, err := newForwarded(session, pod)
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("forwarding to pod %s: %w", pod, err)
	}
	return conn, nil
}

// isForbidden looks for the API server's answer, which the dialers hand on in
// several ways.
func isForbidden(err error) bool {
	var failed *httpstream.UpgradeFailureError
	return apierrors.IsForbidden(err) || errors.As(err, &failed) && apierrors.IsForbidden(failed.Cause)
}

// dialer speaks SPDY within WebSockets, or SPDY alone where the API server, or a
// proxy before it, knows no WebSockets. The errors of SPDY alone are only text:
// refused says whether the other way was refused for want of rights.
func (c *Cluster) dialer(pod string) (dialer httpstream.Dialer, refused *bool, err error) {
	target := c.api.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, nil, err
	}
	plain := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	tunnelled, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, c.config)
	if err != nil {
		return nil, nil, err
	}
	refused = new(bool)
	return portforward.NewFallbackDialerForStreaming(tunnelled, plain, func(err error) bool {
		// Opening a WebSocket is a get, which older roles for port-forwarding don't have.
		*refused = isForbidden(err)
		return *refused || httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), refused, nil
}

// forwarded is a connection to a port of a pod.
type forwarded struct {
	session httpstream.Connection
	data    httpstream.Stream
	address address
	// doubt is why the pod may not be able to serve, nil if it seemed to be.
	doubt error
	// failure is what the kubelet has to say of the connection's end, when told is closed.
	failure error
	told    chan struct{}
	read    deadline
	write   deadline
}

// newForwarded opens the two streams of a connection: one for errors, one for data.
func newForwarded(session httpstream.Connection, pod string) (*forwarded, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(relayPort))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	failures, err := session.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	// Nothing is written to it.
	failures.Close()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := session.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	f := &forwarded{session: session, data: data, address: address(pod), told: make(chan struct{})}
	go f.watch(failures)
	return f, nil
}

// maxFailure bounds what is read of the kubelet's words.
const maxFailure = 4 << 10

// watch reads the stream of errors; what comes there is the connection's end.
func (f *forwarded) watch(failures io.Reader) {
	text, err := io.ReadAll(io.LimitReader(failures, maxFailure))
	if len(text) > 0 {
		err = errors.New(string(text))
	}
	f.failure = err
	close(f.told)
	if len(text) > 0 {
		f.session.Close()
	}
}

// why is the reason for an error of the data stream. It may come a little later.
func (f *forwarded) why(err error) error {
	select {
	case <-f.told:
	case <-time.After(100 * time.Millisecond):
		return err
	}
	if f.failure == nil {
		return err
	}
	return errors.Join(f.doubt, fmt.Errorf("forwarding to pod %s: %w", f.address, f.failure))
}

// Read is part of net.Conn.
func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.data.Read(p)
	if n == 0 && err != nil {
		err = f.why(err)
	}
	return n, err
}

// Write is part of net.Conn.
func (f *forwarded) Write(p []byte) (int, error) {
	n, err := f.data.Write(p)
	if err != nil {
		err = f.why(err)
	}
	return n, err
}

// Close is part of net.Conn.
func (f *forwarded) Close() error {
	f.read.set(time.Time{}, nil)
	f.write.set(time.Time{}, nil)
	// Resetting the streams keeps unsent data from delaying the end.
	return f.session.Close()
}

// LocalAddr is part of net.Conn.
func (f *forwarded) LocalAddr() net.Addr { return address("") }

// RemoteAddr is part of net.Conn.
func (f *forwarded) RemoteAddr() net.Addr { return f.address }

// SetDeadline is part of net.Conn. Streams know no deadlines: when it passes, the
// whole connection ends, which is what gRPC and TLS do next.
func (f *forwarded) SetDeadline(t time.Time) error {
	return errors.Join(f.SetReadDeadline(t), f.SetWriteDeadline(t))
}

// SetReadDeadline is part of net.Conn; see SetDeadline.
func (f *forwarded) SetReadDeadline(t time.Time) error {
	f.read.set(t, func() { f.session.Close() })
	return nil
}

// SetWriteDeadline is part of net.Conn; see SetDeadline.
func (f *forwarded) SetWriteDeadline(t time.Time) error {
	f.write.set(t, func() { f.session.Close() })
	return nil
}

// address names a pod.
type address string

// Network is part of net.Addr.
func (address) Network() string { return "pod" }

// String is part of net.Addr.
func (a address) String() string { return string(a) }
