// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"sync"
)

// parallel feeds jobs to workers until feed returns, a worker returns an error,
// or ctx ends. All have ended when it returns.
func parallel[T any](ctx context.Context, workers int,
	feed func(context.Context, func(T) bool) error, work func(context.Context, T) error,
) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	jobs := make(chan T)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for j := range jobs {
				if ctx.Err() != nil {
					continue
				}
				if err := work(ctx, j); err != nil {
					stop(err)
				}
			}
		})
	}
	err := feed(ctx, func(j T) bool {
		select {
		case jobs <- j:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(jobs)
	running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
