// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// deleteTimeout is how long delete waits by default. The controller waits less for
	// nodes that don't answer.
	deleteTimeout = 2 * time.Minute
	// deletePoll is how often it looks.
	deletePoll = 200 * time.Millisecond
)

// newSessionSuspend makes the command that suspends sessions, or the one that resumes them.
func newSessionSuspend(to bool, stop context.Context, streams Streams) *cobra.Command {
	t := &sessionTarget{}
	use, short, done := "suspend NAME...", "Stop trace sessions for a while; what was recorded is kept", "suspended"
	if !to {
		use, short, done = "resume NAME...", "Go on with trace sessions that were suspended", "resumed"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: named(0),
		RunE: func(_ *cobra.Command, names []string) error {
			ctx, cancel := context.WithTimeout(stop, askTimeout)
			defer cancel()
			c, err := t.open()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := c.suspend(ctx, name, to); err != nil {
					return err
				}
				fmt.Fprintln(streams.Out, c.object(name), done)
			}
			return nil
		},
		ValidArgsFunction: completeSessions(t),
	}
	t.add(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

func newSessionDelete(stop context.Context, streams Streams) *cobra.Command {
	t, wait, timeout := &sessionTarget{}, false, time.Duration(0)
	cmd := &cobra.Command{
		Use: "delete NAME...", Short: "Delete trace sessions, and what the nodes have recorded of them", Args: named(0),
		RunE: func(_ *cobra.Command, names []string) error {
			if timeout <= 0 {
				return usagef("--timeout is %s, want more than nothing", timeout)
			}
			ctx, cancel := context.WithTimeout(stop, timeout)
			defer cancel()
			c, err := t.open()
			if err != nil {
				return err
			}
			return c.deleteAll(ctx, names, wait, streams)
		},
		ValidArgsFunction: completeSessions(t),
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until the sessions are gone")
	cmd.Flags().DurationVar(&timeout, "timeout", deleteTimeout, "longest time to wait")
	t.add(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

// deleteAll deletes the sessions before it waits for the first.
func (c *sessionClient) deleteAll(ctx context.Context, names []string, wait bool, streams Streams) error {
	uids := map[string]types.UID{}
	for _, name := range names {
		s, err := c.get(ctx, name)
		if err == nil {
			uids[name] = s.meta.UID
			err = c.delete(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range names {
		if wait {
			if err := c.awaitGone(ctx, name, uids[name]); err != nil {
				return err
			}
		}
		fmt.Fprintln(streams.Out, c.object(name), "deleted")
	}
	return nil
}

// awaitGone waits until there is no session of the name, or another one.
func (c *sessionClient) awaitGone(ctx context.Context, name string, uid types.UID) error {
	ticker := time.NewTicker(deletePoll)
	defer ticker.Stop()
	for {
		raw, err := c.resource().Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && raw.GetUID() != uid:
			return nil
		case err != nil && ctx.Err() == nil:
			return c.explain("get", name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is being deleted, but still there: it waits for the controller, see kubectl gadget session describe %s %s",
				c.object(name), name, c.arguments())
		case <-ticker.C:
		}
	}
}
