// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"fmt"

	"nodegadget.dev/pkg/btf/bundle"
	"nodegadget.dev/pkg/btf/layout"
)

// Two kernels that have one content, in memory instead of a file.
func ExampleWriter() {
	focal := layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}
	bionic := layout.Kernel{Distro: "ubuntu", Release: "18.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}
	var w bundle.Writer
	for _, k := range []layout.Kernel{focal, bionic} {
		if err := w.Add(k, []byte("tailored BTF")); err != nil {
			fmt.Println(err)
			return
		}
	}
	file, err := w.Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := bundle.New(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	raw, err := b.Lookup(bionic)
	fmt.Printf("%s %v %v\n", raw, err, b.Same(focal, bionic))
	// Output: tailored BTF <nil> true
}
