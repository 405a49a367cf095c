// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAuthorityIsKept(t *testing.T) {
	a := newAuthority(t)
	cert, key, err := a.Marshal()
	require.NoError(t, err)
	kept, err := ParseAuthority(cert, key)
	require.NoError(t, err)
	require.Equal(t, a.Certificate().Raw, kept.Certificate().Raw)
	leaf := issue(t, kept, Leaf{Identity: Controller})
	require.NoError(t, verify([]*x509.Certificate{leaf.Leaf}, rootsOf(t, a), x509.ExtKeyUsageClientAuth, Controller))
}

func TestBadAuthorities(t *testing.T) {
	cert, key, err := newAuthority(t).Marshal()
	require.NoError(t, err)
	_, otherKey, err := newAuthority(t).Marshal()
	require.NoError(t, err)
	for _, test := range []struct {
		name, want string
		cert, key  []byte
	}{
		{"nothing", "no certificate in PEM", nil, nil},
		{"no key", `is not a PEM block "EC PRIVATE KEY"`, cert, nil},
		{"exchanged", `PEM block "EC PRIVATE KEY" among certificates`, key, cert},
		{"another's key", "doesn't belong to its certificate", cert, otherKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseAuthority(test.cert, test.key)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestLeaf(t *testing.T) {
	a := newAuthority(t)
	leaf := issue(t, a, Leaf{Identity: Controller, DNS: []string{"nodegadget-controller.nodegadget.svc"}}).Leaf
	require.Equal(t, []string{"nodegadget-controller.nodegadget.svc"}, leaf.DNSNames)
	require.False(t, leaf.IsCA)
	require.WithinDuration(t, time.Now().Add(LeafLifetime), leaf.NotAfter, time.Minute)
	require.WithinDuration(t, time.Now().Add(-skew), leaf.NotBefore, time.Minute)
	long := issue(t, a, Leaf{Identity: agent(t, "node1"), Lifetime: 2 * AuthorityLifetime}).Leaf
	require.Equal(t, a.Certificate().NotAfter, long.NotAfter)
	identity, err := IdentityOf(long)
	require.NoError(t, err)
	node, ok := identity.Node()
	require.True(t, ok)
	require.Equal(t, "node1", node)
}

// TestRequestDecidesNothing: what a request asks for beside its key is ignored.
func TestRequestDecidesNothing(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"kubernetes"}, URIs: uri(t, string(Controller)),
	}, key)
	require.NoError(t, err)
	der, err := newAuthority(t).Issue(csr, Leaf{Identity: agent(t, "node1")})
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	require.Equal(t, "nodegadget", leaf.Subject.CommonName)
	require.Empty(t, leaf.DNSNames)
	identity, err := IdentityOf(leaf)
	require.NoError(t, err)
	require.Equal(t, agent(t, "node1"), identity)
}

func TestBadRequests(t *testing.T) {
	a := newAuthority(t)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	large, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, other)
	require.NoError(t, err)
	good, err := NewRequest()
	require.NoError(t, err)
	broken := append([]byte(nil), good.CSR...)
	broken[len(broken)-1] ^= 1
	for _, test := range []struct {
		name, want string
		csr        []byte
		identity   Identity
	}{
		{"nothing", "reading the certificate request", nil, Controller},
		{"broken signature", "checking the certificate request", broken, Controller},
		{"another curve", "is not one of ECDSA P-256", large, Controller},
		{"no identity", "is no identity of nodegadget", good.CSR, ""},
		{"a foreign identity", "is no identity of nodegadget", good.CSR, "spiffe://example.com/controller"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := a.Issue(test.csr, Leaf{Identity: test.identity})
			require.ErrorContains(t, err, test.want)
		})
	}
	der, err := a.Issue(good.CSR, Leaf{Identity: Controller})
	require.NoError(t, err)
	another, err := NewRequest()
	require.NoError(t, err)
	_, err = another.Certificate(der)
	require.ErrorContains(t, err, "for another key")
}

func TestNodeNames(t *testing.T) {
	for _, name := range []string{"", "a/b", "../controller", "A", "-a", "a-", "a..b", "a b", "a\n", "node1%2f", strings.Repeat("a", 254)} {
		_, err := Agent(name)
		require.ErrorContains(t, err, "is no name of a node", "%q", name)
	}
	for _, name := range []string{"node1", "ip-10-0-0-1.ec2.internal", "a", "0"} {
		_, err := Agent(name)
		require.NoError(t, err, "%q", name)
	}
}

func TestKeyPairBeforeItsFirst(t *testing.T) {
	pair := &KeyPair{}
	require.Zero(t, pair.Expiry())
	_, err := pair.GetCertificate(nil)
	require.ErrorIs(t, err, errNoCertificate)
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		pair := &KeyPair{}
		var renewed []time.Duration
		var failures int
		start := time.Now()
		renew := func(context.Context) (*tls.Certificate, error) {
			if len(renewed) == 1 && failures < 3 {
				return nil, errors.New("away")
			}
			renewed = append(renewed, time.Since(start).Round(time.Minute))
			return issue(t, a, Leaf{Identity: Controller}), nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Hour)
		defer cancel()
		pair.Rotate(ctx, renew, func(err error) {
			require.EqualError(t, err, "away")
			failures++
		})
		require.Equal(t, 3, failures)
		require.Len(t, renewed, 4)
		require.Zero(t, renewed[0])
		for i := range 3 {
			require.InDelta(t, 16*time.Hour, renewed[i+1]-renewed[i], float64(time.Hour))
		}
		require.WithinDuration(t, time.Now(), pair.Expiry(), LeafLifetime)
	})
}

// TestShortLivedCertificates: an authority about to expire issues such; asking it
// must not become a loop.
func TestShortLivedCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		calls := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		(&KeyPair{}).Rotate(ctx, func(context.Context) (*tls.Certificate, error) {
			calls++
			return issue(t, a, Leaf{Identity: Controller, Lifetime: -time.Second}), nil
		}, func(err error) { require.NoError(t, err) })
		require.LessOrEqual(t, calls, 61)
	})
}
