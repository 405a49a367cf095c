// SPDX-License-Identifier: Apache-2.0

package clustertest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	constants "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// forward connects each pair of streams to the relay, as API server and kubelet do
// together.
func (s *Server) forward(w http.ResponseWriter, request *http.Request) {
	streams := make(chan httpstream.Stream, 2)
	accept := func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	}
	var conn httpstream.Connection
	if strings.EqualFold(request.Header.Get("Upgrade"), "websocket") {
		conn = s.tunnel(w, request, accept)
	} else if _, err := httpstream.Handshake(request, w, []string{portforward.PortForwardProtocolV1Name}); err == nil {
		conn = spdy.NewResponseUpgrader().UpgradeResponse(w, request, accept)
	}
	if conn == nil {
		return // The client has been told.
	}
	defer conn.Close()
	s.mu.Lock()
	s.forwards = append(s.forwards, conn.Close)
	s.mu.Unlock()
	var failures, data httpstream.Stream
	for failures == nil || data == nil {
		select {
		case stream := <-streams:
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				failures = stream
			} else {
				data = stream
			}
		case <-conn.CloseChan():
			return
		}
	}
	s.join(request.Context(), failures, data, conn.CloseChan())
	// The client closes the connection; the end of the streams tells it to.
	select {
	case <-conn.CloseChan():
	case <-time.After(10 * time.Second):
	}
}

// tunnel takes a WebSocket in which SPDY is spoken.
func (s *Server) tunnel(w http.ResponseWriter, request *http.Request, accept httpstream.NewStreamHandler) httpstream.Connection {
	if s.NoWebSockets {
		http.Error(w, "no WebSockets here", http.StatusBadRequest)
		return nil
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{constants.WebsocketsSPDYTunnelingPortForwardV1}}
	socket, err := upgrader.Upgrade(w, request, nil)
	if err != nil {
		return nil
	}
	conn, err := spdy.NewServerConnection(portforward.NewTunnelingConnection("server", socket), accept)
	if err != nil {
		return nil
	}
	return conn
}

func (s *Server) join(ctx context.Context, failures, data httpstream.Stream, closed <-chan bool) {
	defer failures.Close()
	defer data.Close()
	if port := data.Headers().Get(corev1.PortHeader); s.ClosedPort || port != "8443" {
		fmt.Fprintf(failures, "an error occurred forwarding %s: connection refused", port)
		return
	}
	pod, err := s.relay.DialContext(ctx)
	if err != nil {
		fmt.Fprintf(failures, "an error occurred forwarding: %v", err)
		return
	}
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(pod, data)
		done <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(data, pod)
		done <- struct{}{}
	}()
	select {
	case <-done:
	case <-closed:
	}
	pod.Close()
}
