// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"nodegadget.dev/pkg/pki"
)

const (
	// AuthorityName is that of the Secret with the authority's key, and of the
	// ConfigMap with its certificate, which everybody may read.
	AuthorityName = "nodegadget-authority"
	// AuthorityKey is the ConfigMap's only key.
	AuthorityKey = "ca.crt"
	// PreviousKey is a key of the Secret, with the certificate of the authority before
	// this one, which is still trusted. Who replaces the authority puts it there, and
	// takes it away a day later.
	PreviousKey = "previous.crt"

	// followPeriod is how often the Secret is read, and it is made sure that the
	// ConfigMap is as it should be.
	followPeriod = time.Minute
	// overlap is how long the controller goes on with its certificate of the previous
	// authority, so that everybody learns of the new one first: kubelets bring the
	// ConfigMap to pods within two minutes.
	overlap = 5 * time.Minute
)

// authority issues certificates with the key that is in the cluster.
type authority struct {
	client    kubernetes.Interface
	namespace string
	// roots has the certificates of the authority and of the previous one.
	roots   *pki.Roots
	current atomic.Pointer[pki.Authority]
}

// openAuthority reads the authority, or makes one if there is none.
func openAuthority(ctx context.Context, client kubernetes.Interface, namespace string) (*authority, error) {
	a := &authority{client: client, namespace: namespace, roots: &pki.Roots{}}
	if _, err := a.load(ctx); err != nil {
		return nil, err
	}
	return a, a.publish(ctx)
}

// load reads the authority, or makes one. It says whether it is another one than before.
func (a *authority) load(ctx context.Context) (changed bool, err error) {
	secret, err := a.secret(ctx)
	if err != nil {
		return false, fmt.Errorf("reading the authority's Secret: %w", err)
	}
	read, err := pki.ParseAuthority(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return false, fmt.Errorf("secret %s/%s: %w; remove it, and a new authority is made", a.namespace, AuthorityName, err)
	}
	trusted := append(pki.MarshalCertificates(read.Certificate()), secret.Data[PreviousKey]...)
	if err := a.roots.Set(trusted); err != nil {
		return false, fmt.Errorf("secret %s/%s: %w", a.namespace, AuthorityName, err)
	}
	before := a.current.Swap(read)
	return before != nil && !before.Certificate().Equal(read.Certificate()), nil
}

// secret returns the authority's Secret. Of several controllers that make it at the
// same time, one's is taken by all.
func (a *authority) secret(ctx context.Context) (*corev1.Secret, error) {
	secrets := a.client.CoreV1().Secrets(a.namespace)
	secret, err := secrets.Get(ctx, AuthorityName, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return secret, err
	}
	made, err := newAuthoritySecret()
	if err != nil {
		return nil, err
	}
	secret, err = secrets.Create(ctx, made, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return secrets.Get(ctx, AuthorityName, metav1.GetOptions{})
	}
	return secret, err
}

func newAuthoritySecret() (*corev1.Secret, error) {
	made, err := pki.NewAuthority()
	if err != nil {
		return nil, err
	}
	cert, key, err := made.Marshal()
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: AuthorityName},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}, nil
}

// publish puts the certificates where clients and agents look for them.
func (a *authority) publish(ctx context.Context) error {
	configs := a.client.CoreV1().ConfigMaps(a.namespace)
	want := map[string]string{AuthorityKey: string(a.roots.PEM())}
	published, err := configs.Get(ctx, AuthorityName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = configs.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: AuthorityName}, Data: want}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			// Another controller's has the same content.
			err = nil
		}
	case err == nil && published.Data[AuthorityKey] != want[AuthorityKey]:
		published.Data = want
		_, err = configs.Update(ctx, published, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publishing the authority's certificate: %w", err)
	}
	return nil
}

// follow reads and publishes again and again, until ctx ends: without the ConfigMap no
// agent and no client would believe the controller. When the authority was replaced,
// pair gets a certificate of the new one, once everybody may know it.
func (a *authority) follow(ctx context.Context, period time.Duration, pair *pki.KeyPair, failed func(error)) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	var due time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := a.load(ctx)
		if changed {
			due = time.Now().Add(overlap)
		}
		if err == nil {
			err = a.publish(ctx)
		}
		if err == nil && !due.IsZero() && time.Now().After(due) {
			var own *tls.Certificate
			if own, err = a.own(ctx); err == nil {
				pair.Set(own)
				due = time.Time{}
			}
		}
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// own makes a certificate for the controller itself, for the name of its Service too.
func (a *authority) own(context.Context) (*tls.Certificate, error) {
	request, err := pki.NewRequest()
	if err != nil {
		return nil, err
	}
	service := ServiceName + "." + a.namespace + ".svc"
	der, err := a.current.Load().Issue(request.CSR, pki.Leaf{Identity: pki.Controller, DNS: []string{service}})
	if err != nil {
		return nil, err
	}
	return request.Certificate(der)
}
