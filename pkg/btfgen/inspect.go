// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/print"
)

func newInspect(s streams) *cobra.Command {
	var kernel, extract, output string
	cmd := &cobra.Command{
		Use:   "inspect BUNDLE",
		Short: "Show what is in a bundle",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, paths []string) error {
			if output != "table" && output != "json" {
				return usagef("--output %q: want table or json", output)
			}
			if extract != "" && kernel == "" {
				return usagef("--extract is for one kernel: give --kernel too")
			}
			b, err := bundle.Open(paths[0])
			if err != nil {
				return err
			}
			defer b.Close()
			if kernel != "" {
				return inspectKernel(s, b, kernel, extract)
			}
			return inspectAll(s, b, output)
		},
	}
	cmd.Flags().StringVar(&kernel, "kernel", "", "show one kernel: what uname -r prints, or distro/release/arch/kernel")
	cmd.Flags().StringVar(&extract, "extract", "", "file to write that kernel's BTF to")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// group is what the bundle has of one distribution's release.
type group struct {
	Distro   string `json:"distro"`
	Release  string `json:"release"`
	Arch     string `json:"arch"`
	Kernels  int    `json:"kernels"`
	Contents int    `json:"contents"` // different ones
	Smallest int    `json:"smallest"` // bytes
	Largest  int    `json:"largest"`
	seen     map[int]bool
}

func groupsOf(b *bundle.Bundle) []*group {
	var groups []*group
	for _, k := range b.Kernels() {
		number, size, _ := b.Content(k)
		last := len(groups) - 1
		if last < 0 || groups[last].Distro != k.Distro || groups[last].Release != k.Release || groups[last].Arch != k.Arch {
			groups = append(groups, &group{Distro: k.Distro, Release: k.Release, Arch: k.Arch, Smallest: size, seen: make(map[int]bool)})
			last++
		}
		g := groups[last]
		g.Kernels++
		g.seen[number] = true
		g.Contents = len(g.seen)
		g.Smallest, g.Largest = min(g.Smallest, size), max(g.Largest, size)
	}
	return groups
}

func inspectAll(s streams, b *bundle.Bundle, output string) error {
	info, groups := b.Info(), groupsOf(b)
	if output == "json" {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Version  int      `json:"version"`
			Objects  []object `json:"objects"`
			Kernels  int      `json:"kernels"`
			Contents int      `json:"contents"`
			Size     int64    `json:"size"`
			Unpacked int64    `json:"unpacked"`
			Unshared int64    `json:"unshared"`
			Groups   []*group `json:"groups"`
		}{bundle.Version, objectsOf(info), info.Kernels, info.Contents, info.Size, info.Unpacked, info.Unshared, groups})
	}
	fmt.Fprintf(s.out, "%d kernels, %d different, in %d bytes (unpacked %d, unshared %d)\n\n",
		info.Kernels, info.Contents, info.Size, info.Unpacked, info.Unshared)
	table := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "DISTRIBUTION\tRELEASE\tARCH\tKERNELS\tDIFFERENT\tBYTES EACH")
	for _, g := range groups {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d to %d\n", g.Distro, g.Release, g.Arch, g.Kernels, g.Contents, g.Smallest, g.Largest)
	}
	fmt.Fprintln(table, "\nOBJECT\tDIGEST\t\t\t\t")
	for _, o := range objectsOf(info) {
		fmt.Fprintf(table, "%s\t%s\t\t\t\t\n", print.Escape(o.Name), o.Digest)
	}
	return table.Flush()
}

type object struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

func objectsOf(info bundle.Info) []object {
	var objects []object
	for _, o := range info.Objects {
		objects = append(objects, object{o.Name, o.Digest.String()[:16]})
	}
	return objects
}

// matching are the kernels that a name means: a full one, or the release string
// of any distribution.
func matching(b *bundle.Bundle, name string) []layout.Kernel {
	var found []layout.Kernel
	for _, k := range b.Kernels() {
		if k.String() == name || k.Uname == name {
			found = append(found, k)
		}
	}
	return found
}

func inspectKernel(s streams, b *bundle.Bundle, name, extract string) error {
	kernels := matching(b, name)
	if len(kernels) == 0 {
		return fmt.Errorf("kernel %q: %w", name, bundle.ErrNotFound)
	}
	table := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "KERNEL\tBYTES\tSHARED WITH")
	for _, k := range kernels {
		_, size, _ := b.Content(k)
		fmt.Fprintf(table, "%s\t%d\t%d others\n", k, size, sharers(b, k))
	}
	if err := table.Flush(); err != nil || extract == "" {
		return err
	}
	different := slices.ContainsFunc(kernels, func(k layout.Kernel) bool { return !b.Same(k, kernels[0]) })
	if different {
		return fmt.Errorf("kernel %q is of several distributions with different types: name one of them to extract it", name)
	}
	raw, err := b.Lookup(kernels[0])
	if err != nil {
		return err
	}
	return writeFile(extract, raw)
}

func sharers(b *bundle.Bundle, k layout.Kernel) int {
	n := -1 // itself
	for _, other := range b.Kernels() {
		if b.Same(k, other) {
			n++
		}
	}
	return n
}
