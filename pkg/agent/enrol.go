// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

const (
	// enrolTimeout bounds one attempt to get a certificate.
	enrolTimeout = 10 * time.Second
	// authorityPeriod is how often it is looked whether the authority was replaced.
	authorityPeriod = 15 * time.Second
)

// Enrolment says how the agent gets the certificate by which the controller knows it,
// and knows the controller.
type Enrolment struct {
	// Controller is the controller's address, host:port.
	Controller string
	// Authority is a file with the certificates of who may have signed the controller's,
	// PEM. Token is one with the token of the agent's service account. Both are read
	// anew each time.
	Authority, Token string
}

func (e *Enrolment) check() error {
	if e.Controller == "" || e.Authority == "" || e.Token == "" {
		return errors.New("a certificate takes a controller to ask, its authority, and a token: all of --controller, --authority and --token")
	}
	return nil
}

// enrolment is one under way.
type enrolment struct {
	Enrolment
	node  string
	roots *pki.Roots
}

// prepareEnrolment makes what the certificate will be put into.
func (a *Agent) prepareEnrolment() error {
	if a.setup.Enrolment == nil {
		return nil
	}
	if err := a.setup.Enrolment.check(); err != nil {
		return err
	}
	authority, err := os.ReadFile(a.setup.Enrolment.Authority)
	if err != nil {
		return fmt.Errorf("reading the authority: %w", err)
	}
	roots, err := pki.NewRoots(authority)
	if err != nil {
		return fmt.Errorf("%s: %w", a.setup.Enrolment.Authority, err)
	}
	e := &enrolment{Enrolment: *a.setup.Enrolment, node: a.opts.Node, roots: roots}
	a.roots, a.pair = roots, &pki.KeyPair{}
	a.tasks = append(a.tasks,
		task{"enrolment", func(ctx context.Context) error {
			a.rotate(ctx, e)
			return nil
		}},
		task{"authority", func(ctx context.Context) error {
			a.followAuthority(ctx, e, authorityPeriod)
			return nil
		}},
	)
	return nil
}

// rotate gets a certificate, and another in time.
func (a *Agent) rotate(ctx context.Context, e *enrolment) {
	renew := func(ctx context.Context) (*tls.Certificate, error) {
		cert, err := e.enrol(ctx)
		if err == nil {
			a.opts.Log.Info("the controller issued a certificate", "expires", cert.Leaf.NotAfter)
		}
		return cert, err
	}
	a.pair.Rotate(ctx, renew, func(err error) {
		a.opts.Log.Warn("no certificate yet, asking again", "controller", e.Controller, "error", err)
	})
}

// followAuthority gets another certificate when the authority was replaced: those of
// the former one are soon worth nothing.
func (a *Agent) followAuthority(ctx context.Context, e *enrolment, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	known := e.roots.PEM()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// A file that is being replaced is read next time.
		if now, err := os.ReadFile(e.Authority); err != nil || bytes.Equal(now, known) {
			continue
		}
		cert, err := e.enrol(ctx)
		if err != nil {
			a.opts.Log.Warn("no certificate of the new authority yet", "error", err)
			continue
		}
		known = e.roots.PEM()
		a.pair.Set(cert)
		a.opts.Log.Info("the authority was replaced", "expires", cert.Leaf.NotAfter)
	}
}

// enrol asks the controller for a certificate.
func (e *enrolment) enrol(ctx context.Context) (*tls.Certificate, error) {
	authority, err := os.ReadFile(e.Authority)
	if err != nil {
		return nil, fmt.Errorf("reading the authority: %w", err)
	}
	if err := e.roots.Set(authority); err != nil {
		return nil, err
	}
	token, err := os.ReadFile(e.Token)
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", err)
	}
	request, err := pki.NewRequest()
	if err != nil {
		return nil, err
	}
	der, err := e.ask(ctx, request.CSR, strings.TrimSpace(string(token)))
	if err != nil {
		return nil, fmt.Errorf("asking for a certificate: %w", err)
	}
	cert, err := request.Certificate(der)
	if err != nil {
		return nil, err
	}
	return cert, e.verify(cert)
}

// ask sends the request to the controller, if that is who it should be.
func (e *enrolment) ask(ctx context.Context, csr []byte, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	creds := credentials.NewTLS(pki.ClientConfig(nil, e.roots, pki.Controller))
	conn, err := grpc.NewClient(e.Controller, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	response, err := wire.NewEnrolmentClient(conn).Enrol(ctx, &wire.EnrolRequest{Csr: csr})
	if err != nil {
		return nil, err
	}
	return response.GetCertificate(), nil
}

// verify makes sure that the certificate is this node's: the controller goes by the
// token, the rest of the agent by its flags.
func (e *enrolment) verify(cert *tls.Certificate) error {
	want, err := pki.Agent(e.node)
	if err != nil {
		return err
	}
	got, err := pki.IdentityOf(cert.Leaf)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the certificate is for %s, but this is %s: is --node-name right?", got, want)
	}
	return nil
}
