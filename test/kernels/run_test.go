// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeQEMU stands for the emulator; what it prints is the guest's console.
func fakeQEMU(t *testing.T, script string) {
	t.Helper()
	fakePrograms(t, map[string]string{"qemu-system-x86_64": script, "qemu-system-aarch64": script})
}

func testBoot(ctx context.Context, t *testing.T, timeout time.Duration) result {
	t.Helper()
	o := runOptions{Timeout: timeout, LogDir: t.TempDir()}
	return o.boot(ctx, kernel{Name: "k"}, vm{Arch: "amd64", Kernel: "/vmlinux", Initrd: "/initrd", Memory: 1, CPUs: 1})
}

func TestBoot(t *testing.T) {
	for _, tc := range []struct{ name, qemu, want string }{
		{"pass", "echo hello; echo NODEGADGET-EXIT 0 6.1.0", ""},
		{"fail", "echo NODEGADGET-EXIT 2 6.1.0", "exit code 2"},
		{"no marker", "echo hello", "guest stopped without an exit marker"},
		{"no emulator", "echo 'qemu: no such machine' >&2; exit 1", "qemu-system-x86_64: exit status 1: qemu: no such machine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fakeQEMU(t, tc.qemu)
			r := testBoot(t.Context(), t, time.Minute)
			got := ""
			if r.Err != nil {
				got = r.Err.Error()
			}
			if got != tc.want {
				t.Errorf("error is %q, want %q", got, tc.want)
			}
		})
	}
}

func TestBootTimeout(t *testing.T) {
	// The marker does not help a guest that never powers off.
	fakeQEMU(t, "echo NODEGADGET-EXIT 0 6.1.0; exec sleep 60")
	r := testBoot(t.Context(), t, 300*time.Millisecond)
	if r.Err == nil || r.Err.Error() != "timed out after 300ms" {
		t.Errorf("error is %v", r.Err)
	}
	if r.Took > 10*time.Second {
		t.Errorf("took %s", r.Took)
	}
}

func TestBootInterrupted(t *testing.T) {
	fakeQEMU(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r := testBoot(ctx, t, time.Minute)
	if r.Err == nil || r.Err.Error() != "interrupted" {
		t.Errorf("error is %v", r.Err)
	}
	if r = testBoot(ctx, t, time.Minute); r.Took != 0 {
		t.Error("a guest was started after the interrupt")
	}
}

func TestBootAll(t *testing.T) {
	// The kernel named on the command line decides.
	fakeQEMU(t, `case "$*" in *bad*) sleep 0.1; echo NODEGADGET-EXIT 1 6.1.0;; *) echo NODEGADGET-EXIT 0 6.1.0;; esac`)
	kernels := []kernel{{Name: "bad"}, {Name: "good"}, {Name: "fine"}}
	var vms []vm
	for _, k := range kernels {
		vms = append(vms, vm{Arch: "amd64", Kernel: k.Name})
	}

	var out bytes.Buffer
	o := runOptions{Timeout: time.Minute, LogDir: t.TempDir(), Jobs: 2}
	if err := o.bootAll(t.Context(), kernels, vms, &out); !errors.Is(err, errKernelsFailed) {
		t.Errorf("error is %v", err)
	}
	var order []string
	for line := range strings.Lines(out.String()) {
		if word := strings.Fields(line); word[0] == "ok" || word[0] == "FAIL" {
			order = append(order, word[0]+" "+word[1])
		}
	}
	if got := strings.Join(order, ", "); got != "FAIL bad, ok good, ok fine" {
		t.Errorf("reported %s", got)
	}
	if !strings.HasSuffix(out.String(), "\n2 passed, 1 failed\n") {
		t.Errorf("printed %s", &out)
	}
}

func TestVMArgs(t *testing.T) {
	v := vm{Name: "k-1", Arch: "arm64", Kernel: "/k", Initrd: "/i", Memory: 256, CPUs: 3, BTF: btfHidden, Cmdline: "debug foo=1"}
	m, err := v.Arch.machine()
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(v.args(m), " ")
	for _, want := range []string{"-machine virt", "-accel tcg", "-m 256", "-smp 3", "-kernel /k", "-initrd /i", "console=ttyAMA0", " nodegadget.kernel=k-1 nodegadget.btf=hidden debug foo=1"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
}

func TestReport(t *testing.T) {
	log := filepath.Join(t.TempDir(), "k.log")
	text := strings.Repeat("early\n", tailLines) + "\x1b[31mlate\r\n"
	if err := os.WriteFile(log, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := result{Kernel: kernel{Name: "6.1"}, Took: 1234 * time.Millisecond, Log: log, Err: errors.New("exit code 1")}
	r.Transcript.Exit.Release = "6.1.0-56-cloud-amd64"
	r.Transcript.Passed = 7
	r.Transcript.Failed = []string{"TestA"}
	r.Transcript.Skipped = []skip{{"TestB", "needs Linux 6.9"}, {"TestC", ""}}

	var out bytes.Buffer
	r.print(&out)
	want := `FAIL  6.1                6.1.0-56-cloud-amd64               1.2s  exit code 1; 7 passed, 1 failed, 2 skipped
      fail  TestA
      skip  TestB: needs Linux 6.9
      skip  TestC: no reason given
      the end of ` + log + `:
` + strings.Repeat("      | early\n", tailLines-1) + "      | [31mlate\n"
	if out.String() != want {
		t.Errorf("printed\n%s, want\n%s", &out, want)
	}
}
