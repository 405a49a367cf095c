// SPDX-License-Identifier: Apache-2.0

package sink_test

import (
	"encoding/pem"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"nodegadget.dev/pkg/sink"
	"nodegadget.dev/pkg/tape"
)

func TestTLS(t *testing.T) {
	lender := httptest.NewUnstartedServer(nil)
	lender.StartTLS()
	t.Cleanup(lender.Close)
	trusted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lender.Certificate().Raw})
	server := &collector{}
	endpoint, _ := serve(t, server, "", grpc.Creds(credentials.NewServerTLSFromCert(&lender.TLS.Certificates[0])))
	for _, test := range []struct {
		name    string
		opts    sink.OTLPOptions
		wantErr string
	}{
		{"its authority is known", sink.OTLPOptions{Endpoint: endpoint, CABundle: trusted}, ""},
		{"with the scheme", sink.OTLPOptions{Endpoint: "https://" + endpoint, CABundle: trusted}, ""},
		{"its authority isn't the system's", sink.OTLPOptions{Endpoint: endpoint}, "certificate"},
		{"it doesn't speak in the clear", sink.OTLPOptions{Endpoint: endpoint, Insecure: true}, "Unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := sink.NewOTLP(test.opts)
			tp := tape.New(tape.Options{})
			tp.Append(things(0, 1), nil)
			stop := start(t, o, execSpec(), tp)
			require.Eventually(t, func() bool { return o.State().Written == 1 || o.State().Err != nil }, 10*time.Second, time.Millisecond)
			if test.wantErr == "" {
				require.NoError(t, o.State().Err)
			} else {
				require.ErrorContains(t, o.State().Err, test.wantErr)
			}
			_ = stop()
		})
	}
}

func TestEndpoints(t *testing.T) {
	for _, opts := range []sink.OTLPOptions{
		{},
		{Endpoint: "collector"},
		{Endpoint: "collector:grpc"},
		{Endpoint: "collector:0"},
		{Endpoint: "collector:99999"},
		{Endpoint: ":4317"},
		{Endpoint: "http://collector:4317"},
		{Endpoint: "https://collector:4317/v1/logs"},
		{Endpoint: "https://user@collector:4317"},
		{Endpoint: "https://collector:4317", Insecure: true},
		{Endpoint: "unix:///run/containerd/containerd.sock"},
		{Endpoint: "unix:///run/containerd/containerd.sock:1"},
		{Endpoint: "unix-abstract:x:1"},
		{Endpoint: "passthrough:///collector:4317"},
		{Endpoint: "collector:4317", CABundle: []byte("not PEM")},
	} {
		t.Run(opts.Endpoint, func(t *testing.T) {
			o := sink.NewOTLP(opts)
			tp := tape.New(tape.Options{})
			tp.Append(things(0, 3), nil)
			err := o.Run(t.Context(), headerOf(execSpec()), tp.Read(tape.From{}))
			require.Error(t, err)
			require.Equal(t, sink.State{Dropped: 3, Err: err}, o.State())
		})
	}
	t.Run("addresses of the sixth version", func(t *testing.T) {
		o := sink.NewOTLP(sink.OTLPOptions{Endpoint: "[::1]:4317", Insecure: true})
		tp := tape.New(tape.Options{})
		tp.Close()
		require.NoError(t, o.Run(t.Context(), headerOf(execSpec()), tp.Read(tape.From{})))
	})
}
