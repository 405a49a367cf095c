// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// arch is an architecture in the words of Debian, which for ours are those of Go.
type arch string

// machine is how an architecture is emulated.
type machine struct {
	qemu    string   // program
	pkg     string   // Debian package of the program
	args    []string // board and processor
	console string   // the kernel's name of the first serial port
	elf     string   // of test binaries
}

func (a arch) machine() (machine, error) {
	switch a {
	case "amd64":
		return machine{
			qemu: "qemu-system-x86_64", pkg: "qemu-system-x86",
			args: []string{"-machine", "q35", "-cpu", "max"}, console: "ttyS0", elf: "EM_X86_64",
		}, nil
	case "arm64":
		// The newer "max" spends its time on emulating pointer authentication.
		return machine{
			qemu: "qemu-system-aarch64", pkg: "qemu-system-arm",
			args: []string{"-machine", "virt", "-cpu", "cortex-a57"}, console: "ttyAMA0", elf: "EM_AARCH64",
		}, nil
	default:
		return machine{}, fmt.Errorf("unknown architecture %q, have amd64 and arm64", string(a))
	}
}
