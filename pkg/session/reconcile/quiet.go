// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"log/slog"
)

// quiet takes what the libraries say of their own doings for debugging. Warnings and
// errors stay what they are.
type quiet struct{ slog.Handler }

// Enabled is part of slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, softer(level))
}

// Handle is part of slog.Handler.
func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	record.Level = softer(record.Level)
	return q.Handler.Handle(ctx, record)
}

// WithAttrs is part of slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup is part of slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func softer(level slog.Level) slog.Level {
	if level <= slog.LevelInfo {
		return min(level, slog.LevelDebug)
	}
	return level
}
