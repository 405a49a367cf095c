// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// epoch is the time of all files in the images.
const epoch int64 = 1_700_000_000

// builder builds images in a store of its own.
type builder struct {
	env  []string
	base string // the image that programs are compiled in
	out  string // an OCI layout with all images
}

// newBuilder makes the base image, which takes minutes where no earlier run did.
func newBuilder(t *testing.T) *builder {
	t.Helper()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("needs buildah, which `make test-image` installs")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: building without it takes user namespaces")
	}
	images := filepath.Join(cacheDir(t), "images")
	require.NoError(t, os.MkdirAll(filepath.Join(images, "tmp"), 0o755))
	b := &builder{out: filepath.Join(t.TempDir(), "oci")}
	b.env = append(os.Environ(),
		"NODEGADGET_CACHE="+cacheDir(t),
		"SOURCE_DATE_EPOCH="+strconv.FormatInt(epoch, 10),
		// The caches that the Dockerfile mounts, among them Go's, are kept here.
		"TMPDIR="+filepath.Join(images, "tmp"),
		"BUILDAH_ISOLATION=chroot",
		"CONTAINERS_STORAGE_CONF="+makeStore(t, images))
	begin := time.Now()
	b.base = strings.TrimSpace(b.run(t, "hack/base-image.sh"))
	t.Logf("base image: %s after %.0f s", b.base, time.Since(begin).Seconds())
	return b
}

// makeStore returns the configuration of a store that ends with the test. Where
// overlay mounts don't work, such as in most containers, layers are copied.
func makeStore(t *testing.T, dir string) string {
	t.Helper()
	store, err := os.MkdirTemp(dir, "store-")
	require.NoError(t, err)
	t.Cleanup(func() {
		unmountBelow(t, store)
		require.NoError(t, os.RemoveAll(store))
	})
	conf := filepath.Join(store, "storage.conf")
	for _, driver := range []string{"overlay", "vfs"} {
		text := fmt.Sprintf("[storage]\ndriver = %q\ngraphroot = %q\nrunroot = %q\n",
			driver, filepath.Join(store, driver), filepath.Join(store, driver+"-run"))
		require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
		// Opening the store is what tries the driver.
		cmd := exec.CommandContext(t.Context(), "buildah", "info")
		cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+conf)
		if err = cmd.Run(); err == nil {
			return conf
		}
	}
	require.NoError(t, err, "buildah works neither with overlay nor with vfs")
	return ""
}

// unmountBelow ends what a build that failed has left mounted in the directory.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	for _, line := range slices.Backward(strings.Split(string(read(t, "/proc/self/mounts")), "\n")) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			require.NoError(t, syscall.Unmount(fields[1], 0), fields[1])
		}
	}
}

// build runs hack/image.sh and returns the image.
func (b *builder) build(t *testing.T, tag string, args ...string) *image {
	t.Helper()
	begin := time.Now()
	tag = "localhost/nodegadget-test/" + tag
	b.run(t, "hack/image.sh", append([]string{
		tag, "--build-arg", "GOLANG=" + b.base, "--build-arg", "VERSION=" + version,
		// A commit between two builds would make them differ.
		"--build-arg", "REVISION=test",
	}, args...)...)
	took := time.Since(begin)
	name := filepath.Base(tag)
	b.run(t, "buildah", "push", "--quiet", tag, "oci:"+b.out+":"+name)
	i := readImage(t, b.out, name)
	t.Logf("%s: linux/%s, %.1f MB to pull, %.1f MB unpacked, built in %.0f s",
		name, i.arch, float64(i.packed)/1e6, float64(i.unpacked())/1e6, took.Seconds())
	return i
}

// run runs a command in the module's directory and returns what it prints.
func (b *builder) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = "../..", b.env
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	require.NoError(t, cmd.Run(), "%s %s:\n%s%s", name, strings.Join(args, " "), &out, &log)
	return out.String()
}

// cacheDir is where scripts and tests keep downloads.
func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("NODEGADGET_CACHE"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	return filepath.Join(home, ".cache", "nodegadget")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}
