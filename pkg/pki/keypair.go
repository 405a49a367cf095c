// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"
)

// Request is a key and what an authority needs to issue a certificate for it.
type Request struct {
	// CSR is PKCS #10, DER.
	CSR []byte
	key *ecdsa.PrivateKey
}

// NewRequest makes a new key, which never leaves this process.
func NewRequest() (*Request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return &Request{CSR: csr, key: key}, nil
}

// Certificate joins the key with the certificate, DER, that was issued for it.
func (r *Request) Certificate(der []byte) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the issued certificate: %w", err)
	}
	if !r.key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the issued certificate is for another key")
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: r.key, Leaf: leaf}, nil
}

// KeyPair is a certificate with its key that is replaced before it expires.
// The zero value has none yet. Its methods may be called concurrently.
type KeyPair struct {
	current atomic.Pointer[tls.Certificate]
}

var errNoCertificate = errors.New("no certificate has been issued yet")

// Set replaces the certificate; new connections use it.
func (k *KeyPair) Set(cert *tls.Certificate) { k.current.Store(cert) }

// Expiry is when the certificate expires; zero if there is none.
func (k *KeyPair) Expiry() time.Time {
	if cert := k.current.Load(); cert != nil {
		return cert.Leaf.NotAfter
	}
	return time.Time{}
}

// GetCertificate is for tls.Config.
func (k *KeyPair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.get()
}

// GetClientCertificate is for tls.Config.
func (k *KeyPair) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return k.get()
}

func (k *KeyPair) get() (*tls.Certificate, error) {
	if cert := k.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errNoCertificate
}

// A renewal that didn't succeed is tried again after a while, doubled each time.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// Rotate gets a certificate from renew when there is none, and another when two
// thirds of its time are over, until ctx ends. What goes wrong is reported to
// failed, and tried again.
func (k *KeyPair) Rotate(ctx context.Context, renew func(context.Context) (*tls.Certificate, error), failed func(error)) {
	retry := firstRetry
	for {
		wait := k.untilRenewal(time.Now())
		if wait <= 0 {
			cert, err := renew(ctx)
			if err == nil {
				k.Set(cert)
				retry = firstRetry
				// A certificate that is old already must not become a loop.
				wait = max(k.untilRenewal(time.Now()), firstRetry)
			} else if ctx.Err() == nil {
				failed(err)
				// All agents of a cluster may have started at the same moment.
				wait = retry/2 + mathrand.N(retry)
				retry = min(2*retry, lastRetry)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (k *KeyPair) untilRenewal(now time.Time) time.Duration {
	cert := k.current.Load()
	if cert == nil {
		return 0
	}
	lifetime := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return cert.Leaf.NotAfter.Add(-lifetime / 3).Sub(now)
}
