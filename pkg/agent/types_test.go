// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTypesAreSharedUntilTheyAreForgotten(t *testing.T) {
	var c typeCache
	first := c.get()
	require.NotNil(t, first)
	require.Same(t, first, c.get())
	c.forget()
	require.NotSame(t, first, c.get())
	c.drop.Stop()
}
