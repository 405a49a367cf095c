// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Identity says which part of nodegadget the bearer of a certificate is. It is the
// certificate's only URI name.
type Identity string

const (
	// Controller is the identity of gadget-controller.
	Controller Identity = "spiffe://nodegadget.dev/controller"

	agentPrefix = "spiffe://nodegadget.dev/agent/"
)

// nodeName is what Kubernetes allows as the name of a node: a DNS subdomain.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// Agent is the identity of the agent on a node.
func Agent(node string) (Identity, error) {
	if len(node) > 253 || !nodeName.MatchString(node) {
		return "", fmt.Errorf("%.300q is no name of a node", node)
	}
	return Identity(agentPrefix + node), nil
}

// Node is the name of the node whose agent this is; ok is false for others.
func (i Identity) Node() (node string, ok bool) {
	return strings.CutPrefix(string(i), agentPrefix)
}

func (i Identity) url() (*url.URL, error) {
	node, agent := i.Node()
	if i != Controller && (!agent || len(node) > 253 || !nodeName.MatchString(node)) {
		return nil, fmt.Errorf("%.300q is no identity of nodegadget", string(i))
	}
	return url.Parse(string(i))
}

// IdentityOf reads the identity out of a certificate that somebody has verified.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	if len(cert.URIs) != 1 {
		return "", errors.New("the certificate doesn't have exactly one URI name, as nodegadget's have")
	}
	identity := Identity(cert.URIs[0].String())
	if _, err := identity.url(); err != nil {
		return "", err
	}
	return identity, nil
}
