// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/btf/build"
	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/tailor"
)

// Where the kernel shows no types, the tests find a bundle that has them, and
// types of other kernels.
const (
	bundleEnv  = "LIVE_BTF_BUNDLE"  // a file
	foreignEnv = "LIVE_BTF_FOREIGN" // a directory of <release>.btf
)

const kernelTypes = "/sys/kernel/btf"

// showsTypes tells whether the kernel shows types of its own here.
func showsTypes() bool {
	_, err := os.Stat(filepath.Join(kernelTypes, "vmlinux"))
	return err == nil
}

// hide takes the kernel's types away from this process, which must have a mount
// namespace of its own, and from its children.
func hide() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if _, err := os.Stat(kernelTypes); errors.Is(err, fs.ErrNotExist) {
		return nil // the kernel has none
	}
	return unix.Mount("tmpfs", kernelTypes, "tmpfs", 0, "")
}

// answer is what kubectl-gadget left.
type answer struct {
	status   int
	out, err string
}

func hiddenCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t), append([]string{"hidden"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return cmd
}

// withoutTypes runs kubectl-gadget where the kernel shows no types of its own.
func withoutTypes(t *testing.T, args ...string) answer {
	t.Helper()
	cmd := hiddenCommand(t, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// bundlePath is a bundle that has this kernel's types.
func bundlePath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(bundleEnv); path != "" {
		return path
	}
	require.True(t, showsTypes(), "the kernel shows no types: %s must name a bundle", bundleEnv)
	id, err := kernel.Identify("/")
	if err != nil {
		t.Log(err)
	}
	full, err := os.ReadFile(filepath.Join(kernelTypes, "vmlinux"))
	require.NoError(t, err)
	dir := t.TempDir()
	entry := filepath.Join(dir, "archive/test/1", id.Arch, id.Release+".btf")
	require.NoError(t, os.MkdirAll(filepath.Dir(entry), 0o755))
	require.NoError(t, os.WriteFile(entry, full, 0o600))
	data, report, err := build.Build(t.Context(), build.Options{Archive: filepath.Join(dir, "archive"), Objects: builtin(t)})
	require.NoError(t, err)
	require.Equal(t, 1, report.Entries, report.Skipped)
	file := filepath.Join(dir, "btf.bundle")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file
}

func builtin(t *testing.T) []tailor.Object {
	t.Helper()
	var objects []tailor.Object
	files := gadgets.Objects()
	require.NoError(t, fs.WalkDir(files, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".o" {
			return err
		}
		content, err := fs.ReadFile(files, name)
		objects = append(objects, tailor.Object{Name: name, Content: content})
		return err
	}))
	return objects
}

// TestWithoutTypesTheErrorSaysWhatHelps: no gadget, no event, and one message that
// names the kernel and what the operator can do.
func TestWithoutTypesTheErrorSaysWhatHelps(t *testing.T) {
	needRoot(t)
	release, err := kernel.Release()
	require.NoError(t, err)
	for _, gadget := range []string{"exec", "open"} {
		got := withoutTypes(t, "trace", gadget, "--local", "--timeout", "1s")
		assert.Equal(t, 1, got.status)
		assert.Empty(t, got.out)
		for _, want := range []string{"no BTF for kernel " + release, "/sys/kernel/btf/vmlinux: not there", "(1) name this kernel's BTF with --btf", "(2) install", "(3) run a kernel built with CONFIG_DEBUG_INFO_BTF=y"} {
			assert.Contains(t, got.err, want)
		}
	}
}

// TestWithABundleValuesAreRight: what is read through tailored types is compared
// with what is known otherwise.
func TestWithABundleValuesAreRight(t *testing.T) {
	needRoot(t)
	var namespace unix.Stat_t
	require.NoError(t, unix.Stat("/proc/self/ns/mnt", &namespace))
	cmd := hiddenCommand(t, "trace", "exec", "--local", "--btf", bundlePath(t), "--verbose", "-o", "json",
		"--max-events", "1", "--timeout", "2m", "--filter", `": values" in args`)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	said, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(said)
	var seen []string
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "hook ") {
		seen = append(seen, lines.Text())
	}
	if len(seen) == 0 || !strings.HasPrefix(lines.Text(), "hook ") {
		require.Fail(t, "not attached", "%q", seen)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
	pid := command(t, "/bin/sh", "-c", ": values")
	var event struct {
		PID, PPID int
		Comm      string
		Args      []string
		MntnsID   uint64 `json:"mntns_id"`
	}
	require.NoError(t, json.NewDecoder(out).Decode(&event), "%q", seen)
	<-drained
	require.NoError(t, cmd.Wait())
	assert.Equal(t, pid, event.PID)
	assert.Equal(t, os.Getpid(), event.PPID)
	assert.Equal(t, "sh", event.Comm)
	assert.Equal(t, []string{"/bin/sh", "-c", ": values"}, event.Args)
	assert.Equal(t, namespace.Ino, event.MntnsID)
	text := strings.Join(seen, "\n")
	assert.Contains(t, text, "BTF explicit from ")
	assert.Contains(t, text, "facts agree")
}

// TestTypesOfAnotherKernelAreRefused: they would load, and every value be wrong.
func TestTypesOfAnotherKernelAreRefused(t *testing.T) {
	needRoot(t)
	release, err := kernel.Release()
	require.NoError(t, err)
	for name, file := range foreignTypes(t) {
		t.Run(name, func(t *testing.T) {
			got := withoutTypes(t, "trace", "exec", "--local", "--btf", file, "--timeout", "1s")
			assert.Equal(t, 1, got.status)
			assert.Empty(t, got.out)
			assert.Contains(t, got.err, "isn't this kernel's ("+release+")")
			assert.Contains(t, got.err, ", want ")
		})
	}
}

// foreignTypes are files with types of other versions than this kernel's.
func foreignTypes(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	dir := os.Getenv(foreignEnv)
	if dir == "" {
		file := filepath.Join(t.TempDir(), "moved.btf")
		require.NoError(t, os.WriteFile(file, moved(t), 0o600))
		return map[string]string{"moved": file}
	}
	release, err := kernel.Release()
	require.NoError(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if version(e.Name()) != version(release) {
			files[version(e.Name())] = filepath.Join(dir, e.Name())
		}
	}
	require.NotEmpty(t, files)
	return files
}

var versionPattern = regexp.MustCompile(`^\d+\.\d+`)

// version is the 5.10 of 5.10.0-46-cloud-amd64.
func version(release string) string { return versionPattern.FindString(release) }

// moved are this kernel's types with each member of task_struct a word further
// on, as if there were one more at its beginning.
func moved(t *testing.T) []byte {
	t.Helper()
	spec, err := btf.LoadSpec(filepath.Join(kernelTypes, "vmlinux"))
	require.NoError(t, err)
	var task *btf.Struct
	require.NoError(t, spec.TypeByName("task_struct", &task))
	for i := range task.Members {
		task.Members[i].Offset += 64
	}
	builder, err := btf.NewBuilder([]btf.Type{task}, nil)
	require.NoError(t, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(t, err)
	return raw
}
