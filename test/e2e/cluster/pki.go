// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// validity of all certificates is longer than any cluster lives.
const validity = 7 * 24 * time.Hour

// authority signs certificates and keeps them in a directory.
type authority struct {
	dir  string
	name string // its files are NAME.crt and NAME.key
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(dir, name string) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, name: name, key: key}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if a.cert, err = a.sign(template, template, key); err != nil {
		return nil, err
	}
	return a, a.write(name, a.cert, key)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// A minute back, for clocks of guests.
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(validity)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// path is that of a file of the authority.
func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

func (a *authority) write(file string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.path(file+".key"), encodePEM("PRIVATE KEY", der), 0o600); err != nil {
		return err
	}
	return os.WriteFile(a.path(file+".crt"), encodePEM("CERTIFICATE", cert.Raw), 0o644)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// identity is whom a certificate is for.
type identity struct {
	user   string
	groups []string
	// hosts are the names and addresses of a server; without them it is a client.
	hosts []string
}

// issue writes FILE.crt and FILE.key.
func (a *authority) issue(file string, id identity) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: id.user, Organization: id.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(id.hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, host := range id.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	cert, err := a.sign(template, a.cert, key)
	if err != nil {
		return err
	}
	return a.write(file, cert, key)
}

// kubeconfig issues a client's certificate and writes FILE.kubeconfig, which holds
// all that the client needs. It returns its path.
func (a *authority) kubeconfig(file, server string, id identity) (string, error) {
	if err := a.issue(file, id); err != nil {
		return "", err
	}
	cluster := clientcmdapi.NewCluster()
	cluster.Server, cluster.CertificateAuthority = server, a.path(a.name+".crt")
	user := clientcmdapi.NewAuthInfo()
	user.ClientCertificate, user.ClientKey = a.path(file+".crt"), a.path(file+".key")
	context := clientcmdapi.NewContext()
	context.Cluster, context.AuthInfo = "e2e", id.user
	config := clientcmdapi.NewConfig()
	config.Clusters["e2e"], config.AuthInfos[id.user], config.Contexts["e2e"] = cluster, user, context
	config.CurrentContext = "e2e"
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return "", err
	}
	path := a.path(file + ".kubeconfig")
	return path, clientcmd.WriteToFile(*config, path)
}

// writeKeyPair writes the keys that service accounts' tokens are signed with.
func writeKeyPair(dir, name string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".key"), encodePEM("PRIVATE KEY", private), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".pub"), encodePEM("PUBLIC KEY", public), 0o644)
}
