// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

const (
	// AuthorityLifetime is how long an authority is valid.
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	// LeafLifetime is how long a certificate is valid unless something else is asked for.
	LeafLifetime = 24 * time.Hour
	// skew is how much a clock may be behind the authority's.
	skew = 10 * time.Minute

	certificateBlock = "CERTIFICATE"
	keyBlock         = "EC PRIVATE KEY"
)

// Authority issues certificates. Its methods may be called concurrently.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority with a new key.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	template, err := newTemplate(AuthorityLifetime)
	if err != nil {
		return nil, err
	}
	// Serial numbers of subjects keep two authorities of one name apart.
	template.Subject = pkix.Name{CommonName: "nodegadget authority", SerialNumber: template.SerialNumber.Text(16)}
	template.KeyUsage = x509.KeyUsageCertSign
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// ParseAuthority reads what Marshal has written.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("the authority's key is not a PEM block %q", keyBlock)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's key: %w", err)
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("the authority's key doesn't belong to its certificate")
	}
	return &Authority{cert: certs[0], key: key}, nil
}

// Marshal writes the certificate and the key as PEM.
func (a *Authority) Marshal() (certPEM, keyPEM []byte, err error) {
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the authority's key: %w", err)
	}
	return MarshalCertificates(a.cert), pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key}), nil
}

// Certificate is the authority's own.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Leaf says what a certificate is for.
type Leaf struct {
	// Identity is its bearer.
	Identity Identity
	// DNS are further names of the server that it is shown by, for clients that go by names.
	DNS []string
	// Lifetime is how long it is valid; 0: LeafLifetime. It ends with the authority.
	Lifetime time.Duration
}

// Issue makes a certificate, DER, for the public key of a PKCS #10 request. All else
// that the request asks for is ignored.
func (a *Authority) Issue(request []byte, leaf Leaf) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate request: %w", err)
	}
	// Who asks must have the key.
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("checking the certificate request: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request's key is not one of ECDSA P-256")
	}
	uri, err := leaf.Identity.url()
	if err != nil {
		return nil, err
	}
	template, err := a.leafTemplate(leaf)
	if err != nil {
		return nil, err
	}
	template.URIs = []*url.URL{uri}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", leaf.Identity, err)
	}
	return der, nil
}

func (a *Authority) leafTemplate(leaf Leaf) (*x509.Certificate, error) {
	if leaf.Lifetime == 0 {
		leaf.Lifetime = LeafLifetime
	}
	template, err := newTemplate(leaf.Lifetime)
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.Subject = pkix.Name{CommonName: "nodegadget"}
	template.DNSNames = leaf.DNS
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	// Agents are asked and never ask, except with their token.
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if leaf.Identity == Controller {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	return template, nil
}

func newTemplate(lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-skew), NotAfter: now.Add(lifetime)}, nil
}

// ParseCertificates reads one or more certificates in PEM.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != certificateBlock {
			return nil, fmt.Errorf("PEM block %q among certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return certs, nil
}

// MarshalCertificates writes certificates as PEM.
func MarshalCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: cert.Raw})...)
	}
	return out
}
