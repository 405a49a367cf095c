// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"nodegadget.dev/pkg/pki"
)

const namespace = "nodegadget"

func published(t *testing.T, client *fake.Clientset) string {
	t.Helper()
	config, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), AuthorityName, metav1.GetOptions{})
	require.NoError(t, err)
	return config.Data[AuthorityKey]
}

func TestControllersAgreeOnOneAuthority(t *testing.T) {
	client := fake.NewClientset()
	// All look for it before one has made it.
	var mu sync.Mutex
	looked := map[string]bool{}
	client.PrependReactor("get", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		resource := action.GetResource().Resource
		first := !looked[resource]
		looked[resource] = true
		if first {
			return true, nil, apiNotFound(resource)
		}
		return false, nil, nil
	})
	_, err := openAuthority(t.Context(), client, namespace)
	require.NoError(t, err)
	want := published(t, client)
	looked = map[string]bool{}
	second, err := openAuthority(t.Context(), client, namespace)
	require.NoError(t, err)
	require.Equal(t, want, string(second.roots.PEM()))
	require.Equal(t, want, published(t, client))
	third, err := openAuthority(t.Context(), client, namespace)
	require.NoError(t, err)
	require.Equal(t, want, string(third.roots.PEM()))
}

func TestBadAuthoritySecrets(t *testing.T) {
	good, err := newAuthoritySecret()
	require.NoError(t, err)
	for _, test := range []struct {
		name, want string
		change     func(map[string][]byte)
	}{
		{"no key", "remove it, and a new authority is made", func(data map[string][]byte) { delete(data, corev1.TLSPrivateKeyKey) }},
		{"nonsense before", "secret nodegadget/nodegadget-authority", func(data map[string][]byte) { data[PreviousKey] = []byte("-----BEGIN X-----\n-----END X-----\n") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			secret := good.DeepCopy()
			secret.Namespace = namespace
			test.change(secret.Data)
			_, err := openAuthority(t.Context(), fake.NewClientset(secret), namespace)
			require.ErrorContains(t, err, test.want)
		})
	}
	client := fake.NewClientset()
	client.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("forbidden")
	})
	_, err = openAuthority(t.Context(), client, namespace)
	require.ErrorContains(t, err, "reading the authority's Secret: forbidden")
}

// TestAuthorityIsReplacedWhileEverythingRuns: both are trusted and published, and the
// controller changes sides when everybody may know the new one.
func TestAuthorityIsReplacedWhileEverythingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		a, err := openAuthority(t.Context(), client, namespace)
		require.NoError(t, err)
		old := a.current.Load().Certificate()
		pair := &pki.KeyPair{}
		cert, err := a.own(t.Context())
		require.NoError(t, err)
		pair.Set(cert)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.follow(ctx, time.Minute, pair, func(err error) { require.NoError(t, err) })
		}()
		issuedBy := func() string {
			cert, err := pair.GetCertificate(&tls.ClientHelloInfo{})
			require.NoError(t, err)
			return cert.Leaf.Issuer.SerialNumber
		}
		// Somebody spoils the ConfigMap.
		require.NoError(t, client.CoreV1().ConfigMaps(namespace).Delete(t.Context(), AuthorityName, metav1.DeleteOptions{}))
		time.Sleep(61 * time.Second)
		require.Equal(t, string(a.roots.PEM()), published(t, client))

		secret, err := newAuthoritySecret()
		require.NoError(t, err)
		secret.Data[PreviousKey] = pki.MarshalCertificates(old)
		_, err = client.CoreV1().Secrets(namespace).Update(t.Context(), secret, metav1.UpdateOptions{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, string(secret.Data[corev1.TLSCertKey])+string(secret.Data[PreviousKey]), published(t, client))
		require.Equal(t, old.Subject.SerialNumber, issuedBy(), "not everybody knows the new one yet")
		time.Sleep(overlap + time.Minute)
		require.Equal(t, a.current.Load().Certificate().Subject.SerialNumber, issuedBy())
		require.NotEqual(t, old.Subject.SerialNumber, issuedBy())

		delete(secret.Data, PreviousKey)
		_, err = client.CoreV1().Secrets(namespace).Update(t.Context(), secret, metav1.UpdateOptions{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, string(secret.Data[corev1.TLSCertKey]), published(t, client))
		cancel()
		<-done
	})
}
