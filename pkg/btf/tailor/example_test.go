// SPDX-License-Identifier: Apache-2.0

package tailor_test

import (
	"fmt"
	"os"

	"nodegadget.dev/pkg/btf/tailor"
)

// One kernel's types, cut down to what one object needs.
func ExampleNeeds_Tailor() {
	object, err := os.ReadFile("gadget.x86_64.o")
	if err != nil {
		fmt.Println(err)
		return
	}
	full, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		fmt.Println(err)
		return
	}
	needs, err := tailor.Parse(tailor.Object{Name: "gadget.x86_64.o", Content: object})
	if err != nil {
		fmt.Println(err)
		return
	}
	small, err := needs.Tailor(full)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d of %d bytes\n", len(small), len(full))
}
