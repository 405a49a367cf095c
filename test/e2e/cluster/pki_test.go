// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
)

func TestAuthority(t *testing.T) {
	ca, err := newAuthority(t.TempDir(), "ca")
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)

	require.NoError(t, ca.issue("server", identity{user: "server", hosts: []string{"node1", "10.0.0.1"}}))
	pair, err := tls.LoadX509KeyPair(ca.path("server.crt"), ca.path("server.key"))
	require.NoError(t, err)
	for _, host := range []string{"node1", "10.0.0.1"} {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		require.NoError(t, err, host)
	}

	path, err := ca.kubeconfig("user", "https://10.0.0.1:6443", identity{user: "eve", groups: []string{"shop"}})
	require.NoError(t, err)
	config, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(t, err)
	require.Equal(t, "https://10.0.0.1:6443", config.Host)
	pair, err = tls.X509KeyPair(config.CertData, config.KeyData)
	require.NoError(t, err)
	require.Equal(t, "eve", pair.Leaf.Subject.CommonName)
	require.Equal(t, []string{"shop"}, pair.Leaf.Subject.Organization)
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)
}
