// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/pkg/api/v1alpha1"
	"nodegadget.dev/pkg/wire"
)

const (
	// ownRecords and ownBytes are what each node keeps of a run for a client that is
	// slow, or away for a moment.
	ownRecords = 100_000
	ownBytes   = 8 << 20
	// removeTimeout is how long the end of a run may take to delete its session. The
	// controller does it else.
	removeTimeout = 5 * time.Second
)

// ownSession is the trace session of a run that somebody looks at. It is made for the
// run and ends with it, so that who may run what is decided by who may make sessions.
type ownSession struct {
	client *sessionClient
	name   string
}

// asSession says whether the run is to be a trace session. Sessions are of one namespace
// or of the cluster, and lack what is only for who develops gadgets; such a run is
// started by the relay, if it finds that the caller may.
func (o *runOptions) asSession() bool {
	return o.clustered() && o.attach == nil && len(o.selector.GetNamespaces()) <= 1 && !o.perfBuffer && len(o.alternatives) == 0
}

// own makes the session of a run, which will read it.
func (o *runOptions) own(ctx context.Context) (*ownSession, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, kind, err := o.detached.object(o)
	if err != nil {
		return nil, err
	}
	raw.SetLabels(map[string]string{v1alpha1.LabelInteractive: "true"})
	c := &sessionClient{kind: kind, namespace: raw.GetNamespace()}
	opened, err := o.cluster.open()
	if err != nil {
		return nil, err
	}
	if c.api, err = opened.Resources(); err != nil {
		return nil, err
	}
	created, err := c.create(ctx, raw, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	o.attach = &wire.Attach{
		Namespace: created.GetNamespace(), Name: created.GetName(), Uid: string(created.GetUID()), Follow: true, Owner: true,
	}
	return &ownSession{client: c, name: created.GetName()}, nil
}

// ownStream is what nodes retain for the client.
func ownStream() *v1alpha1.StreamOutput {
	return &v1alpha1.StreamOutput{Retain: ownRecords, RetainBytes: resource.NewQuantity(ownBytes, resource.BinarySI)}
}

// remove deletes the session, whatever has become of the run.
func (s *ownSession) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if err := s.client.delete(ctx, s.name); err != nil {
		return fmt.Errorf("the session of this run is left to the controller to delete: %w", err)
	}
	return nil
}
