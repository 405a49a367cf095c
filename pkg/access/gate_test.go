// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is what the API server knows in a test.
type cluster struct {
	tokens map[string]authenticationv1.TokenReviewStatus
	// rights are "user verb resource/subresource namespace/name".
	rights map[string]bool
	down   error
	asked  []authorizationv1.SubjectAccessReviewSpec
}

func (c *cluster) client(objects ...runtime.Object) *fake.Clientset {
	client := fake.NewClientset(objects...)
	client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		review.Status = c.tokens[review.Spec.Token]
		return true, review, c.down
	})
	client.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		c.asked = append(c.asked, review.Spec)
		a := review.Spec.ResourceAttributes
		resource := a.Resource
		if a.Subresource != "" {
			resource += "/" + a.Subresource
		}
		review.Status.Allowed = c.rights[strings.Join([]string{review.Spec.User, a.Verb, resource, a.Namespace + "/" + a.Name}, " ")]
		return true, review, c.down
	})
	return client
}

func (c *cluster) gate(objects ...runtime.Object) *Gate {
	return New(Options{Client: c.client(objects...), Namespace: "nodegadget"})
}

// token is what the API server says of a token that it accepts.
func token(name string, groups ...string) authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
		Username: name, UID: "uid-" + name, Groups: groups, Extra: map[string]authenticationv1.ExtraValue{"scopes": {"a"}},
	}}
}

// calling is the context of a call with metadata.
func calling(t *testing.T, pairs ...string) context.Context {
	t.Helper()
	return metadata.NewIncomingContext(t.Context(), metadata.Pairs(pairs...))
}

func requireStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, status.Code(err), "%v", err)
	require.Contains(t, status.Convert(err).Message(), text)
}

func TestTokens(t *testing.T) {
	c := &cluster{tokens: map[string]authenticationv1.TokenReviewStatus{
		"janes": token("jane", "dev", user.AllAuthenticated), "nobodys": token(user.Anonymous, user.AllUnauthenticated), "empty": token(""),
	}}
	caller, err := c.gate().Authenticate(calling(t, "authorization", "Bearer janes"))
	require.NoError(t, err)
	require.Equal(t, "jane", caller.String())
	require.Equal(t, &user.DefaultInfo{
		Name: "jane", UID: "uid-jane", Groups: []string{"dev", user.AllAuthenticated}, Extra: map[string][]string{"scopes": {"a"}},
	}, caller.user)
	again, err := c.gate().Authenticate(calling(t, "authorization", "bearer  janes"))
	require.NoError(t, err)
	require.True(t, caller.Same(again))
	for _, test := range []struct {
		name, want string
		metadata   []string
	}{
		{"nothing", "nobody has said who is calling", nil},
		{"unknown", "doesn't accept the token", []string{"authorization", "Bearer forged"}},
		{"anonymous", "anonymous callers may do nothing", []string{"authorization", "Bearer nobodys"}},
		{"nameless", "anonymous callers may do nothing", []string{"authorization", "Bearer empty"}},
		{"another scheme", `one "Bearer" token`, []string{"authorization", "Basic amFuZTpqYW5l"}},
		{"no token", `one "Bearer" token`, []string{"authorization", "Bearer "}},
		{"two", `one "Bearer" token`, []string{"authorization", "Bearer janes", "authorization", "Bearer janes"}},
		{"huge", `one "Bearer" token`, []string{"authorization", "Bearer " + strings.Repeat("x", maxToken+1)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.gate().Authenticate(calling(t, test.metadata...))
			requireStatus(t, err, codes.Unauthenticated, test.want)
		})
	}
	c.down = errors.New("no route to host")
	_, err = c.gate().Authenticate(calling(t, "authorization", "Bearer janes"))
	requireStatus(t, err, codes.Unavailable, "no route to host")
}

// authority signs client certificates as the cluster's does.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

func (a *authority) client(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "jane", Organization: []string{"dev"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(template)
	cert, _ := a.sign(t, template)
	return cert
}

func showing(ctx context.Context, certs ...*x509.Certificate) context.Context {
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: certs}}})
}

func TestCertificates(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	c := &cluster{tokens: map[string]authenticationv1.TokenReviewStatus{"joes": token("joe")}}
	known := false
	gate := New(Options{Client: c.client(), Namespace: "nodegadget", ClientCA: func() (x509.VerifyOptions, bool) {
		roots := x509.NewCertPool()
		roots.AddCert(ours.cert)
		return x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, known
	}})
	same := func(*x509.Certificate) {}
	good := ours.client(t, same)
	_, err := gate.Authenticate(showing(t.Context(), good))
	requireStatus(t, err, codes.Unauthenticated, "nobody has said who is calling")

	known = true
	caller, err := gate.Authenticate(showing(t.Context(), good))
	require.NoError(t, err)
	require.Equal(t, "jane", caller.String())
	require.Equal(t, []string{"dev", user.AllAuthenticated}, caller.user.GetGroups())
	for _, test := range []struct {
		name, want string
		cert       *x509.Certificate
	}{
		{"another authority", "signed by unknown authority", other.client(t, same)},
		{"expired", "expired", ours.client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{"a server's", "incompatible key usage", ours.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		{"no name", "nobody has said who is calling", ours.client(t, func(c *x509.Certificate) { c.Subject.CommonName = "" })},
		{"anonymous", "anonymous callers may do nothing", ours.client(t, func(c *x509.Certificate) { c.Subject.CommonName = user.Anonymous })},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := gate.Authenticate(showing(t.Context(), test.cert))
			requireStatus(t, err, codes.Unauthenticated, test.want)
		})
	}
	// A certificate for something else must not spoil the token.
	caller, err = gate.Authenticate(showing(calling(t, "authorization", "Bearer joes"), other.client(t, same)))
	require.NoError(t, err)
	require.Equal(t, "joe", caller.String())
	// The certificate comes first, as with the API server.
	caller, err = gate.Authenticate(showing(calling(t, "authorization", "Bearer joes"), good))
	require.NoError(t, err)
	require.Equal(t, "jane", caller.String())
}
