// SPDX-License-Identifier: Apache-2.0

// Package client gets tailored BTF from a BTF service (btfgen serve,
// pkg/btf/service), for kernels whose types are neither on the node nor in the
// agent's bundle. It imports little, since every agent has it.
//
// What it returns comes from the network: it is bounded, and looks like BTF. That
// it is this kernel's is for pkg/btf/kernel to check.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"time"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/tailor"
)

const (
	// DefaultTimeout bounds a call of Tailor.
	DefaultTimeout = 30 * time.Second
	// DefaultMaxResponse bounds tailored BTF, in bytes. Usual are some kilobytes.
	DefaultMaxResponse = 16 << 20

	maxAttempts  = 6
	maxRedirects = 3
	maxCA        = 1 << 20 // bytes of a CA file
)

// ErrNotFound says that the service has no such kernel.
var ErrNotFound = errors.New("the BTF service has no such kernel")

// Options say which service is asked, and how.
type Options struct {
	// URL is where the service is, http or https, with a path if it stands below
	// one: https://btf.example.com/hub. Required.
	URL string
	// CAFile has the certificates (PEM) that may have signed the service's. Empty
	// means the system's; if set, those don't count.
	CAFile string
	// Timeout bounds a call, all attempts and waiting included; 0: DefaultTimeout.
	Timeout time.Duration
	// MaxResponse bounds what is accepted, in bytes; 0: DefaultMaxResponse.
	MaxResponse int64
}

// Client asks one service. It is safe for concurrent use.
type Client struct {
	base        *url.URL
	http        *http.Client
	timeout     time.Duration
	maxResponse int64
	// firstWait is how long to wait before the second attempt; it doubles then.
	firstWait time.Duration
}

// New makes a client. It reads the CA file, and connects to nothing yet. Proxies
// from the environment are not used.
func New(opts Options) (*Client, error) {
	base, err := url.Parse(opts.URL)
	if err != nil {
		return nil, fmt.Errorf("BTF service: %w", err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, fmt.Errorf("BTF service %q: want http://host[:port][/path] or https://…", base.Redacted())
	}
	if opts.Timeout < 0 || opts.MaxResponse < 0 {
		return nil, errors.New("BTF service: timeout or response bound is negative")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if opts.CAFile != "" {
		if base.Scheme != "https" {
			return nil, fmt.Errorf("BTF service %s: a CA file needs https", base)
		}
		if config.RootCAs, err = readCA(opts.CAFile); err != nil {
			return nil, fmt.Errorf("BTF service: %w", err)
		}
	}
	c := &Client{base: base, timeout: opts.Timeout, maxResponse: opts.MaxResponse, firstWait: 500 * time.Millisecond}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.maxResponse == 0 {
		c.maxResponse = DefaultMaxResponse
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:        config,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			IdleConnTimeout:        10 * time.Second,
			MaxIdleConns:           1,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // or the bound would be one of packed bytes
		},
		CheckRedirect: sameHost,
	}
	return c, nil
}

// Close ends idle connections. A call that is still running goes on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func readCA(path string) (*x509.CertPool, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading CA: %w", err)
	}
	defer file.Close()
	pem, err := io.ReadAll(io.LimitReader(file, maxCA))
	if err != nil {
		return nil, fmt.Errorf("reading CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading CA: %s has no certificate in PEM", path)
	}
	return pool, nil
}

// sameHost refuses to send objects where nobody configured to.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host {
		return fmt.Errorf("refusing to go on to %q", r.URL.Scheme+"://"+r.URL.Host)
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirections", maxRedirects)
	}
	return nil
}

// Tailor returns raw BTF with what the objects need of kernel k. Distribution and
// release may be left out; the service then answers if all kernels of this name
// and architecture have one content. A busy service is asked again until the
// timeout. Errors name the URL; errors.Is(err, ErrNotFound) if the service has no
// such kernel, errors.As(err, **Error) if it refused for another reason.
func (c *Client) Tailor(ctx context.Context, k layout.Kernel, objects []tailor.Object) ([]byte, error) {
	if len(objects) == 0 {
		return nil, errors.New("BTF service: no objects to tailor for")
	}
	contentType, body, err := form(objects)
	if err != nil {
		return nil, fmt.Errorf("BTF service: %w", err)
	}
	query := url.Values{"arch": {k.Arch}, "kernel": {k.Uname}}
	if k.Distro != "" {
		query.Set("distro", k.Distro)
	}
	if k.Release != "" {
		query.Set("release", k.Release)
	}
	target := c.base.JoinPath("v1", "tailor")
	target.RawQuery = query.Encode()

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	wait := c.firstWait
	for attempt := 1; ; attempt++ {
		raw, err := c.post(ctx, target.String(), contentType, body)
		var refused *Error
		if err == nil || attempt == maxAttempts || !errors.As(err, &refused) || !refused.temporary() {
			return raw, err
		}
		pause := max(wait, refused.RetryAfter)
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("%w (attempt %d; no time for another in %s)", refused, attempt, pause)
		}
		wait *= 2
	}
}

// sleep waits, or fails at once if the context would end before.
func sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func form(objects []tailor.Object) (contentType string, body []byte, err error) {
	var out bytes.Buffer
	writer := multipart.NewWriter(&out)
	for i, object := range objects {
		// Names are only for the service's messages: paths of this machine stay here.
		part, err := writer.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="object"; filename="object-%d"`, i+1)},
			"Content-Type":        {"application/octet-stream"},
		})
		if err != nil {
			return "", nil, err
		}
		if _, err := part.Write(object.Content); err != nil {
			return "", nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return "", nil, err
	}
	return writer.FormDataContentType(), out.Bytes(), nil
}

// post makes one attempt.
func (c *Client) post(ctx context.Context, target, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("BTF service: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", "application/octet-stream, application/problem+json")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("BTF service: %w", err) // names method and URL
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, readError(target, response)
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, c.maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("BTF service: reading the answer of %s: %w", target, err)
	}
	if int64(len(raw)) > c.maxResponse {
		return nil, fmt.Errorf("BTF service: the answer of %s has more than %d bytes", target, c.maxResponse)
	}
	if !isBTF(raw) {
		return nil, fmt.Errorf("BTF service: %s answered with %.100q, which is not BTF: is this a BTF service?",
			target, response.Header.Get("Content-Type"))
	}
	return raw, nil
}

// isBTF knows BTF's magic number, in both byte orders.
func isBTF(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte{0x9f, 0xeb}) || bytes.HasPrefix(raw, []byte{0xeb, 0x9f})
}

// retryAfter reads the header's form in seconds; 0 if it is missing or a date.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseUint(header, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
