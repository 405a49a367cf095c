// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
)

// Roots are the authorities that are trusted: one, or two while one replaces the
// other. Its methods may be called concurrently.
type Roots struct {
	current atomic.Pointer[bundle]
}

type bundle struct {
	pem  []byte
	pool *x509.CertPool
}

// NewRoots reads certificates in PEM.
func NewRoots(data []byte) (*Roots, error) {
	r := &Roots{}
	if err := r.Set(data); err != nil {
		return nil, err
	}
	return r, nil
}

// Set replaces the authorities, for new connections. If it can't, the former stay.
func (r *Roots) Set(data []byte) error {
	certs, err := ParseCertificates(data)
	if err != nil {
		return fmt.Errorf("reading authorities: %w", err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		if !cert.IsCA {
			return errors.New("reading authorities: one of the certificates is not an authority's")
		}
		pool.AddCert(cert)
	}
	r.current.Store(&bundle{pem: bytes.Clone(data), pool: pool})
	return nil
}

// PEM are the certificates as they were given.
func (r *Roots) PEM() []byte { return r.current.Load().pem }

// ServerConfig is for a server that serves the client of one identity, and nobody else.
func ServerConfig(own *KeyPair, roots *Roots, client Identity) *tls.Config {
	config := serverConfig(own)
	config.ClientAuth = tls.RequireAnyClientCert
	// Not ClientCAs: the authority may be replaced while the server runs.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return verify(state.PeerCertificates, roots, x509.ExtKeyUsageClientAuth, client)
	}
	return config
}

// OpenServerConfig is for a server that serves whoever comes. Clients may show a
// certificate; that they have its key is checked, and nothing else: what it is worth
// is for the server to judge.
func OpenServerConfig(own *KeyPair) *tls.Config {
	config := serverConfig(own)
	config.ClientAuth = tls.RequestClientCert
	return config
}

func serverConfig(own *KeyPair) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: own.GetCertificate,
		// Who comes back is looked at again.
		SessionTicketsDisabled: true,
	}
}

// ClientConfig is for a client that speaks to the server of one identity, wherever it
// is. The certificate function may be nil; KeyPair.GetClientCertificate is one.
func ClientConfig(certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error), roots *Roots, server Identity) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: certificate,
		// This switches off the check of the server's name, which is replaced by that of
		// its identity, and of the chain, which VerifyConnection makes up for.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verify(state.PeerCertificates, roots, x509.ExtKeyUsageServerAuth, server)
		},
	}
}

func verify(chain []*x509.Certificate, roots *Roots, usage x509.ExtKeyUsage, want Identity) error {
	if len(chain) == 0 {
		return errors.New("the peer shows no certificate")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots.current.Load().pool, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return fmt.Errorf("verifying the peer's certificate: %w", err)
	}
	identity, err := IdentityOf(chain[0])
	if err != nil {
		return fmt.Errorf("verifying the peer's certificate: %w", err)
	}
	if identity != want {
		return fmt.Errorf("the peer is %s, not %s", identity, want)
	}
	return nil
}
