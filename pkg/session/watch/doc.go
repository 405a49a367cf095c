// SPDX-License-Identifier: Apache-2.0

// Package watch tells an agent which trace sessions there are for its node, from the
// API server.
//
// Of an object only what it means is kept; its status, which changes far more often
// than its spec, is neither read nor compared. While the API server is away, or doesn't
// know of trace sessions yet, the last list stays what is wanted.
package watch
