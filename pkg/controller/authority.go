// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/tls"
	"fmt"
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

	// publishPeriod is how often it is made sure that the ConfigMap is as it should be.
	publishPeriod = time.Minute
)

// authority is kept in the namespace of client.
type authority struct {
	client    kubernetes.Interface
	namespace string
	*pki.Authority
}

// openAuthority reads the authority, or makes one if there is none. Of several
// controllers that do so at a time, one's is taken by all.
func openAuthority(ctx context.Context, client kubernetes.Interface, namespace string) (*authority, error) {
	a := &authority{client: client, namespace: namespace}
	secrets := client.CoreV1().Secrets(namespace)
	secret, err := secrets.Get(ctx, AuthorityName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if secret, err = newAuthoritySecret(); err != nil {
			return nil, err
		}
		if _, err = secrets.Create(ctx, secret, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
			secret, err = secrets.Get(ctx, AuthorityName, metav1.GetOptions{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the authority's Secret: %w", err)
	}
	a.Authority, err = pki.ParseAuthority(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w; remove it, and a new authority is made", namespace, AuthorityName, err)
	}
	return a, a.publish(ctx)
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

// pem is the authority's certificate as clients read it.
func (a *authority) pem() []byte { return pki.MarshalCertificates(a.Certificate()) }

// publish puts the certificate where clients and agents look for it.
func (a *authority) publish(ctx context.Context) error {
	configs := a.client.CoreV1().ConfigMaps(a.namespace)
	want := map[string]string{AuthorityKey: string(a.pem())}
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

// keepPublished publishes again and again, until ctx ends: without the ConfigMap no
// agent and no client would believe the controller.
func (a *authority) keepPublished(ctx context.Context, period time.Duration, failed func(error)) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := a.publish(ctx); err != nil && ctx.Err() == nil {
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
	der, err := a.Issue(request.CSR, pki.Leaf{Identity: pki.Controller, DNS: []string{service}})
	if err != nil {
		return nil, err
	}
	return request.Certificate(der)
}
