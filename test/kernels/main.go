// SPDX-License-Identifier: Apache-2.0

// Command kernels runs a static test binary as root inside real kernels, brings
// its output and its exit code back, and collects the types of kernels.
//
//	go run ./test/kernels list
//	go run ./test/kernels fetch
//	CGO_ENABLED=0 go test -c -o /tmp/amd64.test ./pkg/…
//	go run ./test/kernels run --kernel 5.10 --bin amd64=/tmp/amd64.test -- -test.v
//	go run ./test/kernels run --btf hidden,none --bin … -- -test.v
//	go run ./test/kernels corpus
//
// The kernels are configuration: matrix.yaml names a package pattern and the
// suites to look in. Packages come from the Debian mirror of the machine, through
// an apt with a state of its own that checks the signatures. They are booted by
// qemu's software emulation, with all files in the initramfs; a guest is up in
// about three seconds. Neither root nor KVM is needed on this machine.
//
// One kernel is built, because no Debian kernel lacks BTF: nobtf/ has its options
// and the script. On others BTF can be hidden from user space. Both are left out
// of a run unless --btf or --kernel asks for them. A task learns where it is from
// its environment: GUEST_KERNEL is the name in the matrix, GUEST_BTF is present,
// hidden or none.
//
// The corpus is an archive in BTFHub's layout, in <cache>/corpus. It holds the
// kernels of the matrix under their true names, a built one as distribution
// "nodegadget", release 1, and many more of Debian's: corpus.yaml says which.
//
// Everything fetched, built and collected stays in the cache, so a second run
// needs no network.
//
// The way of a kernel through the files: matrix.go, fetch.go (apt.go, index.go,
// version.go), deb.go, image.go, modules.go, btf.go or build.go; then initramfs.go
// (cpio/), vm.go, guest/, serial.go, report.go. The corpus: corpus.go, collect.go,
// lines.go, pack.go, corpusdir.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  kernels list   [flags]
  kernels fetch  [flags]
  kernels run    [flags] --bin ARCH=PATH... -- ARGS...
  kernels corpus [flags]

Each command explains its flags with -h.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()

	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errKernelsFailed):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := "help"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "list":
		opts, err := parseStoreFlags(command, args)
		if err != nil {
			return err
		}
		return list(opts, os.Stdout)
	case "fetch":
		opts, err := parseStoreFlags(command, args)
		if err != nil {
			return err
		}
		return fetch(ctx, opts, os.Stdout, os.Stderr)
	case "run":
		opts, err := parseRunFlags(args)
		if err != nil {
			return err
		}
		return runMatrix(ctx, opts, os.Stdout, os.Stderr)
	case "corpus":
		opts, err := parseCorpusFlags(args)
		if err != nil {
			return err
		}
		return collect(ctx, opts, os.Stdout, os.Stderr)
	case "help", "-h", "--help":
		fmt.Println(usage)
		return nil
	default:
		return fmt.Errorf("no command %q, have list, fetch, run and corpus", command)
	}
}
