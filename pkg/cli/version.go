// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/print"
	"nodegadget.dev/pkg/version"
	"nodegadget.dev/pkg/wire"
)

func newVersion(stop context.Context, streams Streams) *cobra.Command {
	t := &target{}
	var only bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the versions of this program, the relay and the agents", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(streams.Out, "client: %s (protocol %s)\n", version.Version, protocol(wire.Current()))
			if only {
				return nil
			}
			response, err := t.nodes(stop)
			if err != nil {
				return err
			}
			printVersions(streams.Out, response)
			return nil
		},
	}
	cmd.Flags().BoolVar(&only, "client", false, "this program's only")
	t.addAll(cmd.Flags())
	completeCluster(cmd)
	return cmd
}

func protocol(v *wire.Version) string { return fmt.Sprintf("%d.%d", v.GetMajor(), v.GetMinor()) }

// printVersions writes one line for the relay and one for each version of agents.
func printVersions(w io.Writer, response *wire.NodesResponse) {
	if relay := response.GetRelayVersion(); relay != "" {
		fmt.Fprintf(w, "relay: %s (protocol %s)\n", print.Escape(relay), protocol(response.GetProtocol()))
	}
	nodes := map[string][]string{}
	for _, report := range response.GetNodes() {
		text := "doesn't answer"
		if info := report.GetInfo(); info != nil {
			text = fmt.Sprintf("%s (protocol %s)", info.GetAgentVersion(), protocol(info.GetProtocol()))
		}
		nodes[text] = append(nodes[text], report.GetName())
	}
	for _, text := range slices.Sorted(maps.Keys(nodes)) {
		on := strings.Join(slices.Sorted(slices.Values(nodes[text])), ", ")
		if len(nodes) == 1 && len(nodes[text]) > 1 {
			on = fmt.Sprintf("all %d nodes", len(nodes[text]))
		}
		fmt.Fprintf(w, "agent: %s on %s\n", print.Escape(text), print.Escape(on))
	}
}
