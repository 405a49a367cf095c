// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/btf/build"
	"nodegadget.dev/pkg/btf/tailor"
)

func newTailor(s streams) *cobra.Command {
	var from, to string
	var check, verbose bool
	cmd := &cobra.Command{
		Use:   "tailor --btf FILE --out FILE OBJECT...",
		Short: "Cut one kernel's BTF down to what eBPF objects need",
		Long: `Cut one kernel's BTF down to what eBPF objects need.

The objects' programs get the same instructions when they are relocated against
the result as against the whole.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := required(cmd, "btf", "out"); err != nil {
				return err
			}
			objects, err := readObjects(paths)
			if err != nil {
				return err
			}
			parse := tailor.Parse
			if check {
				parse = func(objects ...tailor.Object) (*tailor.Needs, error) { return build.Needs(objects) }
			}
			needs, err := parse(objects...)
			if err != nil {
				return err
			}
			full, err := readBTF(from)
			if err != nil {
				return err
			}
			result, err := needs.Cut(full)
			if err != nil {
				return fmt.Errorf("tailoring %s: %w", from, err)
			}
			if verbose {
				describe(s, needs, result, len(full))
			}
			warnTypeIDs(s, needs)
			return writeFile(to, result.BTF)
		},
	}
	cmd.Flags().StringVar(&from, "btf", "", "the kernel's BTF: raw, or an ELF file with a .BTF section")
	cmd.Flags().StringVar(&to, "out", "", "file to write raw BTF to")
	cmd.Flags().BoolVar(&check, "with-check", false, "keep also what tells whether the BTF is the running kernel's")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say what was kept and what has no match")
	return cmd
}

func describe(s streams, needs *tailor.Needs, result tailor.Result, full int) {
	for _, o := range needs.Objects() {
		fmt.Fprintf(s.err, "%s: %d relocations, digest %s\n", o.Name, o.Relocations, o.Digest)
	}
	fmt.Fprintf(s.err, "%d of %d bytes kept\n", len(result.BTF), full)
	if len(result.Unmatched) > 0 {
		fmt.Fprintf(s.err, "not among this kernel's types, maybe a module's: %s\n", strings.Join(result.Unmatched, ", "))
	}
}

// warnTypeIDs tells of the one kind of relocation that can't be kept.
func warnTypeIDs(s streams, needs *tailor.Needs) {
	for _, key := range needs.TypeIDs() {
		fmt.Fprintf(s.err, "warning: %s: type numbers of tailored BTF aren't the kernel's\n", key)
	}
}
