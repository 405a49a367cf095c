// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"google.golang.org/grpc/codes"

	"nodegadget.dev/pkg/wire"
)

// everything are the rights of an operator.
func everything(name string) map[string]bool {
	return map[string]bool{
		name + " create tracesessions/stream /": true, name + " create clustertracesessions/stream /": true,
	}
}

func TestTenantsSeeTheirNamespaces(t *testing.T) {
	c := &cluster{rights: everything("admin")}
	c.rights["jane create tracesessions/stream shop/"] = true
	c.rights["jane create tracesessions/stream cart/"] = true
	c.rights["ops create tracesessions/stream /"] = true
	c.rights["ops create tracesessions/stream shop/"] = true
	shop, both := []string{"shop"}, []string{"shop", "cart"}
	for _, test := range []struct {
		name, user string
		selector   *wire.Selector
		denied     string
	}{
		{"own namespace", "jane", &wire.Selector{Namespaces: shop}, ""},
		{"two own ones", "jane", &wire.Selector{Namespaces: both, Pods: []string{"cart-1"}, Containers: []string{"web"}, Labels: "app=cart"}, ""},
		{"another", "jane", &wire.Selector{Namespaces: []string{"bank"}}, `user "jane" may not trace pods in namespace "bank"`},
		{"another among own ones", "jane", &wire.Selector{Namespaces: []string{"shop", "bank", "cart"}}, `may not trace pods in namespace "bank"`},
		{"all", "jane", &wire.Selector{}, `user "jane" may not trace pods in all namespaces`},
		{"all by pod", "jane", &wire.Selector{Pods: []string{"cart-1"}}, "may not trace pods in all namespaces"},
		{"all by label", "jane", &wire.Selector{Labels: "app=cart"}, "may not trace pods in all namespaces"},
		{"all by leaving out", "jane", nil, "may not trace"},
		{"host", "jane", &wire.Selector{Namespaces: shop, Host: true}, `user "jane" may not trace processes outside of pods`},
		{"all pods", "ops", &wire.Selector{}, ""},
		{"all pods but not the host", "ops", &wire.Selector{Host: true}, "may not trace processes outside of pods"},
		{"everything", "ops", nil, "may not trace processes outside of pods"},
		{"the operator's everything", "admin", nil, ""},
		{"a stranger", "joe", &wire.Selector{Namespaces: shop}, `user "joe" may not trace pods in namespace "shop"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := c.gate().Trace(t.Context(), Caller{user: &user.DefaultInfo{Name: test.user}}, test.selector)
			if test.denied == "" {
				require.NoError(t, err)
				return
			}
			requireStatus(t, err, codes.PermissionDenied, test.denied)
		})
	}
}

// TestReadersOfSessions need another verb than those who trace, and one for each kind.
func TestReadersOfSessions(t *testing.T) {
	c := &cluster{rights: everything("tracer")}
	c.rights["jane get tracesessions/stream shop/"] = true
	c.rights["ops get tracesessions/stream /"] = true
	c.rights["ops get tracesessions/stream bank/"] = true
	c.rights["admin get clustertracesessions/stream /"] = true
	for _, test := range []struct {
		name, user, namespace string
		code                  codes.Code
		text                  string
	}{
		{name: "own namespace", user: "jane", namespace: "shop"},
		{"another", "jane", "bank", codes.PermissionDenied, `user "jane" may not read trace sessions of namespace "bank": ` +
			`the right is the verb get on tracesessions.nodegadget.dev/stream, given by a Role and a RoleBinding in namespace "bank"`},
		{name: "all namespaces", user: "ops", namespace: "bank"},
		{"the cluster's", "ops", "", codes.PermissionDenied, `user "ops" may not read trace sessions of the cluster: ` +
			`the right is the verb get on clustertracesessions.nodegadget.dev/stream, given by a ClusterRole and a ClusterRoleBinding`},
		{name: "the cluster's, allowed", user: "admin"},
		{"those are not all", "admin", "shop", codes.PermissionDenied, "may not read trace sessions of namespace"},
		{"who may trace", "tracer", "", codes.PermissionDenied, "may not read trace sessions of the cluster"},
		{"no namespace", "admin", "*", codes.InvalidArgument, `"*" is no name of a namespace`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := c.gate().Session(t.Context(), Caller{user: &user.DefaultInfo{Name: test.user}}, test.namespace)
			if test.text == "" {
				require.NoError(t, err)
				return
			}
			requireStatus(t, err, test.code, test.text)
		})
	}
}

func TestDenialsSayHowToBeAllowed(t *testing.T) {
	gate := (&cluster{}).gate()
	jane := Caller{user: &user.DefaultInfo{Name: "jane"}}
	require.EqualError(t, gate.Trace(t.Context(), jane, &wire.Selector{Namespaces: []string{"shop"}}),
		`rpc error: code = PermissionDenied desc = user "jane" may not trace pods in namespace "shop": `+
			`the right is the verb create on tracesessions.nodegadget.dev/stream, given by a Role and a RoleBinding in namespace "shop"`)
	require.EqualError(t, gate.Cluster(t.Context(), jane, "see how nodes are doing"),
		`rpc error: code = PermissionDenied desc = user "jane" may not see how nodes are doing: `+
			`the right is the verb create on clustertracesessions.nodegadget.dev/stream, given by a ClusterRole and a ClusterRoleBinding`)
}

func TestReviewsSayAllOfTheCaller(t *testing.T) {
	c := &cluster{tokens: map[string]authenticationv1.TokenReviewStatus{"janes": token("jane", "dev")}}
	gate := c.gate()
	caller, err := gate.Authenticate(calling(t, "authorization", "Bearer janes"))
	require.NoError(t, err)
	require.Error(t, gate.Cluster(t.Context(), caller, "x"))
	require.Len(t, c.asked, 1)
	require.Equal(t, "jane", c.asked[0].User)
	require.Equal(t, "uid-jane", c.asked[0].UID)
	require.Equal(t, []string{"dev"}, c.asked[0].Groups)
	require.EqualValues(t, []string{"a"}, c.asked[0].Extra["scopes"])
	c.down = errors.New("no route to host")
	requireStatus(t, gate.Cluster(t.Context(), caller, "x"), codes.Unavailable, "no route to host")
}

func TestSenselessSelectors(t *testing.T) {
	gate := (&cluster{rights: everything("admin")}).gate()
	for _, test := range []struct {
		name, want string
		selector   *wire.Selector
	}{
		{"empty namespace", `"" is no name of a namespace`, &wire.Selector{Namespaces: []string{""}}},
		{"pattern", `"*" is no name of a namespace`, &wire.Selector{Namespaces: []string{"shop", "*"}}},
		{"label", "the label selector makes no sense", &wire.Selector{Labels: "a in"}},
		{"many", "at most 256 are taken", &wire.Selector{Pods: slices.Repeat([]string{"a"}, maxNames+1)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := gate.Trace(t.Context(), Caller{user: &user.DefaultInfo{Name: "admin"}}, test.selector)
			requireStatus(t, err, codes.InvalidArgument, test.want)
		})
	}
}

func TestImpersonation(t *testing.T) {
	c := &cluster{
		tokens: map[string]authenticationv1.TokenReviewStatus{"admins": token("admin"), "janes": token("jane")},
		rights: map[string]bool{
			"admin impersonate users /joe": true, "admin impersonate groups /dev": true, "admin impersonate uids /7": true,
			"admin impersonate userextras/scopes /view": true, "admin impersonate serviceaccounts ci/builder": true,
			"admin impersonate users /system:anonymous": true, "admin impersonate groups /system:unauthenticated": true,
		},
	}
	for _, test := range []struct {
		name, token string
		metadata    []string
		want        *user.DefaultInfo
		code        codes.Code
		text        string
	}{
		{name: "a user", token: "admins", metadata: []string{"Impersonate-User", "joe"}, want: &user.DefaultInfo{
			Name: "joe", Groups: []string{user.AllAuthenticated}, Extra: map[string][]string{},
		}},
		{name: "all of a user", token: "admins", metadata: []string{
			"Impersonate-User", "joe", "Impersonate-Group", "dev", "Impersonate-Uid", "7", "Impersonate-Extra-Scopes", "view",
		}, want: &user.DefaultInfo{
			Name: "joe", UID: "7", Groups: []string{"dev", user.AllAuthenticated}, Extra: map[string][]string{"scopes": {"view"}},
		}},
		{name: "a service account", token: "admins", metadata: []string{"Impersonate-User", "system:serviceaccount:ci:builder"}, want: &user.DefaultInfo{
			Name: "system:serviceaccount:ci:builder", Extra: map[string][]string{},
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ci", user.AllAuthenticated},
		}},
		{
			name: "no right", token: "janes", metadata: []string{"impersonate-user", "admin"}, code: codes.PermissionDenied,
			text: `user "jane" may not impersonate users "admin": the right is the verb impersonate on users`,
		},
		{name: "another user", token: "admins", metadata: []string{"impersonate-user", "root"}, code: codes.PermissionDenied, text: `users "root"`},
		{
			name: "another group", token: "admins", metadata: []string{"impersonate-user", "joe", "impersonate-group", "system:masters"},
			code: codes.PermissionDenied, text: `may not impersonate groups "system:masters"`,
		},
		{
			name: "one group too many", token: "admins", metadata: []string{"impersonate-user", "joe", "impersonate-group", "dev", "impersonate-group", "ops"},
			code: codes.PermissionDenied, text: `groups "ops"`,
		},
		{
			name: "another extra", token: "admins", metadata: []string{"impersonate-user", "joe", "impersonate-extra-scopes", "admin"},
			code: codes.PermissionDenied, text: "userextras.authentication.k8s.io/scopes",
		},
		{name: "a group alone", token: "janes", metadata: []string{"impersonate-group", "dev"}, code: codes.InvalidArgument, text: "only together with one user"},
		{name: "two users", token: "admins", metadata: []string{"impersonate-user", "joe", "impersonate-user", "joe"}, code: codes.InvalidArgument, text: "one user"},
		{name: "anonymous", token: "admins", metadata: []string{"impersonate-user", user.Anonymous}, code: codes.Unauthenticated, text: "anonymous"},
		{
			name: "unauthenticated", token: "admins", metadata: []string{"impersonate-user", "joe", "impersonate-group", user.AllUnauthenticated},
			code: codes.Unauthenticated, text: "anonymous",
		},
		{name: "too much", token: "admins", metadata: append([]string{"impersonate-user", "joe"},
			slices.Repeat([]string{"impersonate-group", "dev"}, maxImpersonated)...), code: codes.InvalidArgument, text: "fewer than 64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			caller, err := c.gate().Authenticate(calling(t, append(test.metadata, "authorization", "Bearer "+test.token)...))
			if test.text != "" {
				requireStatus(t, err, test.code, test.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, caller.user)
			require.Equal(t, "admin as "+test.want.Name, caller.String())
			self, err := c.gate().Authenticate(calling(t, "authorization", "Bearer admins"))
			require.NoError(t, err)
			require.False(t, caller.Same(self))
		})
	}
}

// TestRightsAreThoseOfTheImpersonated: the actor's own ones don't count.
func TestRightsAreThoseOfTheImpersonated(t *testing.T) {
	c := &cluster{rights: everything("admin"), tokens: map[string]authenticationv1.TokenReviewStatus{"admins": token("admin")}}
	c.rights["admin impersonate users /joe"] = true
	gate := c.gate()
	caller, err := gate.Authenticate(calling(t, "authorization", "Bearer admins", "impersonate-user", "joe"))
	require.NoError(t, err)
	err = gate.Trace(t.Context(), caller, nil)
	requireStatus(t, err, codes.PermissionDenied, `user "joe" may not trace`)
	require.False(t, strings.Contains(err.Error(), "admin"))
}

// TestNothingIsRemembered: the same questions about the same call are asked again, and
// have the answers of now.
func TestNothingIsRemembered(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*cluster)
		code   codes.Code
		text   string
	}{
		{"nothing", func(*cluster) {}, codes.OK, ""},
		{"token", func(c *cluster) { delete(c.tokens, "opss") }, codes.Unauthenticated, "doesn't accept the token"},
		{"right", func(c *cluster) { delete(c.rights, "jane create tracesessions/stream shop/") }, codes.PermissionDenied, `user "jane" may not trace pods in namespace "shop"`},
		{"right to be jane", func(c *cluster) { delete(c.rights, "ops impersonate users /jane") }, codes.PermissionDenied, `user "ops" may not impersonate users "jane"`},
		{"API server", func(c *cluster) { c.down = errors.New("no route to host") }, codes.Unavailable, "no route to host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{
				tokens: map[string]authenticationv1.TokenReviewStatus{"opss": token("ops")},
				rights: map[string]bool{"ops impersonate users /jane": true, "jane create tracesessions/stream shop/": true},
			}
			gate, ctx := c.gate(), calling(t, "authorization", "Bearer opss", "impersonate-user", "jane")
			ask := func() error {
				caller, err := gate.Authenticate(ctx)
				if err != nil {
					return err
				}
				return gate.Trace(ctx, caller, &wire.Selector{Namespaces: []string{"shop"}})
			}
			require.NoError(t, ask())
			test.change(c)
			if test.code == codes.OK {
				require.NoError(t, ask())
				return
			}
			requireStatus(t, ask(), test.code, test.text)
		})
	}
}
