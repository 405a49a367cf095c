// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/print"
)

const (
	// exportTimeout is how long a server may take for a request, maxWait how long it may
	// ask to be left alone.
	exportTimeout = 10 * time.Second
	maxWait       = time.Minute
	// maxReason bounds what a server says in the session's status, in bytes.
	maxReason = 256
	// userAgent is what servers see.
	userAgent = "nodegadget"
)

// collector is the client of an OTLP server. It isn't the exporter of OpenTelemetry's
// SDK, which doesn't say how many records a server has rejected, and takes records only
// from the SDK's own pipeline, which drops without saying how many.
type collector struct {
	endpoint string
	conn     *grpc.ClientConn
	logs     collogspb.LogsServiceClient
}

// dial makes a client. It connects when something is to be sent, and again by itself.
func dial(opts OTLPOptions) (*collector, error) {
	target, err := target(opts)
	if err != nil {
		return nil, err
	}
	transport, err := transport(opts)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent(userAgent),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: exportTimeout,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", opts.Endpoint, err)
	}
	return &collector{endpoint: opts.Endpoint, conn: conn, logs: collogspb.NewLogsServiceClient(conn)}, nil
}

// hostName is a name or an address, without anything that gRPC takes for more.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

// target is the endpoint as gRPC wants it. Whoever writes sessions must not reach what
// only the node can, such as its Unix sockets.
func target(opts OTLPOptions) (string, error) {
	address, secure := strings.CutPrefix(opts.Endpoint, "https://")
	host, port, err := net.SplitHostPort(address)
	number, numberErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numberErr != nil || number == 0 || !hostName.MatchString(host) {
		return "", fmt.Errorf("endpoint %.128q is not of the form host:port or https://host:port", opts.Endpoint)
	}
	if secure && opts.Insecure {
		return "", fmt.Errorf("endpoint %.128q says https, but the output is insecure", opts.Endpoint)
	}
	return "dns:///" + net.JoinHostPort(host, port), nil
}

func transport(opts OTLPOptions) (credentials.TransportCredentials, error) {
	if opts.Insecure {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(opts.CABundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(opts.CABundle) {
			return nil, errors.New("the CA bundle has no certificate in PEM")
		}
	}
	return credentials.NewTLS(config), nil
}

func (c *collector) close() { _ = c.conn.Close() }

// export sends a request. A wait of 0 or more means that it may be sent again after
// that time; otherwise rejected is how many of the records the server didn't take.
func (c *collector) export(ctx context.Context, request *collogspb.ExportLogsServiceRequest) (rejected int, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	response, err := c.logs.Export(ctx, request)
	if err != nil {
		s := status.Convert(err)
		err = fmt.Errorf("sending to %s: %s: %s", c.endpoint, s.Code(), reason(s.Message()))
		return len(request.GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords()), again(s), err
	}
	partial := response.GetPartialSuccess()
	if n := max(partial.GetRejectedLogRecords(), 0); n > 0 {
		return int(n), -1, fmt.Errorf("sending to %s: %d records rejected: %s", c.endpoint, n, reason(partial.GetErrorMessage()))
	}
	return 0, -1, nil
}

// reason is what a server says, made safe to show.
func reason(text string) string {
	text = print.Escape(text[:min(len(text), maxReason)])
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// again is how long the server wants to be left alone before the request is sent again,
// or less than 0 if that would not help, as the specification of OTLP has it.
func again(s *status.Status) time.Duration {
	wait := time.Duration(-1)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait = min(max(info.GetRetryDelay().AsDuration(), 0), maxWait)
		}
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return max(wait, 0)
	case codes.ResourceExhausted:
		return wait
	}
	return -1
}
