// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// reviewTimeout bounds each question to the API server.
	reviewTimeout = 10 * time.Second
	// maxToken bounds a token in bytes; those of service accounts have about a thousand.
	maxToken = 16 << 10
)

// Options say what a Gate works with.
type Options struct {
	// Client asks the API server. Required.
	Client kubernetes.Interface
	// Namespace is where the agents and their service account are. Required.
	Namespace string
	// ClientCA are the cluster's authorities for client certificates, when they are
	// known; nil: certificates count for nothing.
	ClientCA x509.VerifyOptionFunc
}

// Gate authenticates callers and looks up their rights. Its methods may be called
// concurrently; errors are gRPC statuses that callers may see.
type Gate struct {
	opts         Options
	certificates *x509.Authenticator
}

// New makes a gate.
func New(opts Options) *Gate {
	g := &Gate{opts: opts}
	if opts.ClientCA != nil {
		g.certificates = x509.NewDynamic(opts.ClientCA, x509.CommonNameUserConversion)
	}
	return g
}

// Caller is who calls, as Kubernetes knows them.
type Caller struct {
	user user.Info
	// actor is who calls in the name of user; empty if that's themselves.
	actor string
}

// String is the caller's name, for logs.
func (c Caller) String() string {
	if c.actor != "" {
		return c.actor + " as " + c.user.GetName()
	}
	return c.user.GetName()
}

// Same says whether two calls were made by the same caller.
func (c Caller) Same(other Caller) bool {
	return c.actor == other.actor && c.user.GetName() == other.user.GetName() && c.user.GetUID() == other.user.GetUID()
}

// Authenticate says who makes the call of ctx.
func (g *Gate) Authenticate(ctx context.Context) (Caller, error) {
	info, err := g.identify(ctx)
	if err != nil {
		return Caller{}, err
	}
	if info.GetName() == "" || info.GetName() == user.Anonymous {
		return Caller{}, status.Error(codes.Unauthenticated, "anonymous callers may do nothing here")
	}
	return g.impersonate(ctx, info)
}

// identify prefers the certificate, as the API server does. One that proves nothing
// doesn't spoil a good token.
func (g *Gate) identify(ctx context.Context) (user.Info, error) {
	fromCertificate, certificateErr := g.byCertificate(ctx)
	if fromCertificate != nil {
		return fromCertificate, nil
	}
	token, err := bearerToken(ctx)
	if err != nil {
		return nil, err
	}
	if token != "" {
		return g.byToken(ctx, token)
	}
	if certificateErr != nil {
		return nil, status.Errorf(codes.Unauthenticated, "the client certificate proves nothing: %v", certificateErr)
	}
	return nil, status.Error(codes.Unauthenticated,
		"nobody has said who is calling: a client certificate of this cluster or a bearer token is needed, as for the API server")
}

func (g *Gate) byCertificate(ctx context.Context) (user.Info, error) {
	p, ok := peer.FromContext(ctx)
	if !ok || g.certificates == nil {
		return nil, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, nil
	}
	response, ok, err := g.certificates.AuthenticateRequest((&http.Request{TLS: &info.State}).WithContext(ctx))
	if err != nil || !ok {
		return nil, err
	}
	return withAuthenticated(response.User), nil
}

// withAuthenticated adds the group of all who are known, as the API server does;
// reviews of tokens have it already.
func withAuthenticated(info user.Info) user.Info {
	for _, group := range info.GetGroups() {
		if group == user.AllAuthenticated || group == user.AllUnauthenticated {
			return info
		}
	}
	groups := append([]string(nil), info.GetGroups()...)
	return &user.DefaultInfo{
		Name: info.GetName(), UID: info.GetUID(), Extra: info.GetExtra(), Groups: append(groups, user.AllAuthenticated),
	}
}

func bearerToken(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return "", nil
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	token = strings.TrimSpace(token)
	if len(values) > 1 || !strings.EqualFold(scheme, "bearer") || token == "" || len(token) > maxToken {
		return "", status.Error(codes.Unauthenticated, `the authorization must be one "Bearer" token`)
	}
	return token, nil
}

func (g *Gate) byToken(ctx context.Context, token string) (user.Info, error) {
	review, err := g.review(ctx, authenticationv1.TokenReviewSpec{Token: token})
	if err != nil {
		return nil, err
	}
	return userInfo(review.User), nil
}

func (g *Gate) review(ctx context.Context, spec authenticationv1.TokenReviewSpec) (*authenticationv1.TokenReviewStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	review, err := g.opts.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "the API server doesn't review the token: %v", err)
	}
	if !review.Status.Authenticated {
		// What is wrong with a token is nobody's business but the API server's.
		return nil, status.Error(codes.Unauthenticated, "the API server doesn't accept the token")
	}
	return &review.Status, nil
}

func userInfo(info authenticationv1.UserInfo) user.Info {
	extra := map[string][]string{}
	for key, values := range info.Extra {
		extra[key] = values
	}
	return &user.DefaultInfo{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: extra}
}
