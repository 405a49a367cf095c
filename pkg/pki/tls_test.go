// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority()
	require.NoError(t, err)
	return a
}

func agent(t *testing.T, node string) Identity {
	t.Helper()
	identity, err := Agent(node)
	require.NoError(t, err)
	return identity
}

func rootsOf(t *testing.T, authorities ...*Authority) *Roots {
	t.Helper()
	var pem []byte
	for _, a := range authorities {
		pem = append(pem, MarshalCertificates(a.Certificate())...)
	}
	roots, err := NewRoots(pem)
	require.NoError(t, err)
	return roots
}

func issue(t *testing.T, a *Authority, leaf Leaf) *tls.Certificate {
	t.Helper()
	request, err := NewRequest()
	require.NoError(t, err)
	der, err := a.Issue(request.CSR, leaf)
	require.NoError(t, err)
	cert, err := request.Certificate(der)
	require.NoError(t, err)
	return cert
}

func holding(cert *tls.Certificate) *KeyPair {
	pair := &KeyPair{}
	pair.Set(cert)
	return pair
}

// forge lets the authority sign what Issue never would.
func forge(t *testing.T, a *Authority, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template, err := newTemplate(time.Hour)
	require.NoError(t, err)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func uri(t *testing.T, text string) []*url.URL {
	t.Helper()
	parsed, err := url.Parse(text)
	require.NoError(t, err)
	return []*url.URL{parsed}
}

// shake lets two configurations meet, and returns what each thinks of the other.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		secure := tls.Server(conn, server)
		if err = secure.HandshakeContext(t.Context()); err == nil {
			_, err = secure.Write([]byte("hello"))
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	secure := tls.Client(conn, client)
	if clientErr = secure.HandshakeContext(t.Context()); clientErr == nil {
		// With TLS 1.3 a client learns only by reading that it was refused.
		_, clientErr = secure.Read(make([]byte, 5))
	}
	conn.Close()
	return <-served, clientErr
}

func TestPartsKnowEachOther(t *testing.T) {
	a := newAuthority(t)
	controller := holding(issue(t, a, Leaf{Identity: Controller}))
	node1 := holding(issue(t, a, Leaf{Identity: agent(t, "node1")}))
	serverErr, clientErr := shake(t,
		ServerConfig(node1, rootsOf(t, a), Controller),
		ClientConfig(controller.GetClientCertificate, rootsOf(t, a), agent(t, "node1")))
	require.NoError(t, serverErr)
	require.NoError(t, clientErr)
}

func TestClientsRefuseOtherServers(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	for _, test := range []struct {
		name, want string
		server     *tls.Certificate
	}{
		{"another authority", "signed by unknown authority", issue(t, other, Leaf{Identity: Controller})},
		{"another identity", "the peer is spiffe://nodegadget.dev/agent/node1, not spiffe://nodegadget.dev/controller", issue(t, ours, Leaf{Identity: agent(t, "node1")})},
		{"expired", "certificate has expired", issue(t, ours, Leaf{Identity: Controller, Lifetime: -time.Second})},
		{"the name only looks so", "exactly one URI name", forge(t, ours, func(c *x509.Certificate) {
			c.Subject, c.DNSNames = pkix.Name{CommonName: string(Controller)}, []string{"nodegadget-controller.nodegadget.svc"}
		})},
		{"two names", "exactly one URI name", forge(t, ours, func(c *x509.Certificate) {
			c.URIs = append(uri(t, string(Controller)), uri(t, "spiffe://nodegadget.dev/agent/node1")...)
		})},
		{"another domain", "is no identity of nodegadget", forge(t, ours, func(c *x509.Certificate) {
			c.URIs = uri(t, "spiffe://nodegadget.dev.example/controller")
		})},
		{"a query behind the name", "is no identity of nodegadget", forge(t, ours, func(c *x509.Certificate) {
			c.URIs = uri(t, string(Controller)+"?x")
		})},
		{"a client's certificate", "incompatible key usage", forge(t, ours, func(c *x509.Certificate) {
			c.URIs, c.ExtKeyUsage = uri(t, string(Controller)), []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := shake(t, OpenServerConfig(holding(test.server)), ClientConfig(nil, rootsOf(t, ours), Controller))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestServersRefuseOtherClients(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	node1 := holding(issue(t, ours, Leaf{Identity: agent(t, "node1")}))
	for _, test := range []struct {
		name, want string
		client     *tls.Certificate
	}{
		{"no certificate", "didn't provide a certificate", nil},
		{"another authority", "signed by unknown authority", issue(t, other, Leaf{Identity: Controller})},
		{"an agent", "incompatible key usage", issue(t, ours, Leaf{Identity: agent(t, "node2")})},
		{"an agent as client", "the peer is spiffe://nodegadget.dev/agent/node2, not", forge(t, ours, func(c *x509.Certificate) {
			c.URIs = uri(t, "spiffe://nodegadget.dev/agent/node2")
		})},
		{"expired", "certificate has expired", issue(t, ours, Leaf{Identity: Controller, Lifetime: -time.Second})},
	} {
		t.Run(test.name, func(t *testing.T) {
			var get func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
			if test.client != nil {
				get = holding(test.client).GetClientCertificate
			}
			serverErr, clientErr := shake(t, ServerConfig(node1, rootsOf(t, ours), Controller), ClientConfig(get, rootsOf(t, ours), agent(t, "node1")))
			require.ErrorContains(t, serverErr, test.want)
			require.Error(t, clientErr)
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	a := newAuthority(t)
	client := ClientConfig(nil, rootsOf(t, a), Controller)
	client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	serverErr, clientErr := shake(t, OpenServerConfig(holding(issue(t, a, Leaf{Identity: Controller}))), client)
	require.ErrorContains(t, serverErr, "unsupported versions")
	require.Error(t, clientErr)
}

// TestAuthorityIsReplaced walks through a rotation: nobody is cut off while roots hold both.
func TestAuthorityIsReplaced(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	roots := rootsOf(t, old)
	server := OpenServerConfig(holding(issue(t, fresh, Leaf{Identity: Controller})))
	client := ClientConfig(nil, roots, Controller)
	_, err := shake(t, server, client)
	require.ErrorContains(t, err, "signed by unknown authority")

	require.NoError(t, roots.Set(append(MarshalCertificates(fresh.Certificate()), roots.PEM()...)))
	_, err = shake(t, server, client)
	require.NoError(t, err)
	_, err = shake(t, OpenServerConfig(holding(issue(t, old, Leaf{Identity: Controller}))), client)
	require.NoError(t, err)

	require.ErrorContains(t, roots.Set([]byte("nothing")), "no certificate in PEM")
	_, err = shake(t, server, client)
	require.NoError(t, err, "bad news leave what there is")
	require.NoError(t, roots.Set(MarshalCertificates(fresh.Certificate())))
	_, err = shake(t, OpenServerConfig(holding(issue(t, old, Leaf{Identity: Controller}))), client)
	require.ErrorContains(t, err, "signed by unknown authority")
}

func TestLeafsAreNoAuthorities(t *testing.T) {
	leaf := issue(t, newAuthority(t), Leaf{Identity: Controller})
	_, err := NewRoots(MarshalCertificates(leaf.Leaf))
	require.ErrorContains(t, err, "is not an authority's")
}
