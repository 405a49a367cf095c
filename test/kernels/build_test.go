// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRecipeKey(t *testing.T) {
	r := recipe{"a": []byte("x"), "b": []byte("y")}
	key := r.key()
	require.Regexp(t, `^[0-9a-f]{12}$`, key)
	for range 10 {
		require.Equal(t, key, r.key())
	}
	for name, other := range map[string]recipe{
		"content":   {"a": []byte("x"), "b": []byte("z")},
		"name":      {"a": []byte("x"), "c": []byte("y")},
		"one more":  {"a": []byte("x"), "b": []byte("y"), "c": nil},
		"elsewhere": {"a": []byte("xy"), "b": nil},
	} {
		require.NotEqual(t, key, other.key(), name)
	}
}

func TestReadRecipe(t *testing.T) {
	r, err := readRecipe("nobtf")
	require.NoError(t, err)
	require.Contains(t, r, "node.config")
	require.Contains(t, string(r["base.config"]), "# CONFIG_DEBUG_INFO_BTF is not set\n")
	for _, folder := range []string{"", "gone", "..", "/etc", "nobtf/build.sh"} {
		_, err := readRecipe(folder)
		require.ErrorContains(t, err, "no recipe", folder)
	}
}

// The options have to be what a shell script and a fragment of Kconfig agree on.
func TestFragments(t *testing.T) {
	r, err := readRecipe("nobtf")
	require.NoError(t, err)
	seen := make(map[string]string)
	for _, name := range []string{"base.config", "node.config"} {
		for line := range strings.Lines(string(r[name])) {
			line = strings.TrimSuffix(line, "\n")
			option := strings.Fields(strings.TrimPrefix(strings.Split(line, "=")[0], "# "))
			if len(option) == 0 || !strings.HasPrefix(option[0], "CONFIG_") {
				require.Regexp(t, `^(#.*)?$`, line, "neither an option nor a comment")
				continue
			}
			require.Regexp(t, `^(CONFIG_\w+=\S+|# CONFIG_\w+ is not set)$`, line)
			require.Empty(t, seen[option[0]], "%s is in %s already", option[0], seen[option[0]])
			seen[option[0]] = name
		}
	}
	require.Greater(t, len(seen), 150)
}

func TestCheckConfigOfScript(t *testing.T) {
	script, err := os.ReadFile("nobtf/build.sh")
	require.NoError(t, err)
	_, function, ok := strings.Cut(string(script), "\ncheck_config() {")
	require.True(t, ok)
	function, _, ok = strings.Cut(function, "\n}\n")
	require.True(t, ok)

	for _, test := range []struct{ name, fragment, config, want string }{
		{"honoured", "# why\nCONFIG_A=y\n# CONFIG_B is not set\n", "CONFIG_A=y\n# CONFIG_B is not set\n", ""},
		{"unknown and off", "# CONFIG_B is not set\n", "CONFIG_A=y\n", ""},
		{"other value", "CONFIG_A=y\n", "CONFIG_A=m\n", "not honoured: CONFIG_A=y"},
		{"longer name", "CONFIG_A=y\n", "CONFIG_A=yes\nXCONFIG_A=y\n", "not honoured: CONFIG_A=y"},
		{"gone", "CONFIG_A=y\nCONFIG_B=y\n", "CONFIG_A=y\n", "not honoured: CONFIG_B=y"},
		{"on", "# CONFIG_B is not set\n", "CONFIG_B=y\n", "not honoured: # CONFIG_B is not set"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "x.config"), []byte(test.fragment), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".config"), []byte(test.config), 0o644))
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c",
				"here=$PWD\ncheck_config() {"+function+"\n}\ncheck_config")
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.Equal(t, test.want, strings.TrimSpace(string(out)))
			require.Equal(t, test.want == "", err == nil)
		})
	}
}

func TestRunRecipe(t *testing.T) {
	dir := t.TempDir()
	script, log := filepath.Join(dir, "build.sh"), filepath.Join(dir, "log")
	require.NoError(t, os.WriteFile(script, []byte("echo at $1; echo warning >&2; exit $2\n"), 0o644))

	var progress bytes.Buffer
	require.NoError(t, runRecipe(t.Context(), log, &progress, script, "work", "0"))
	require.Equal(t, "     0s  at work\n     0s  done\n", progress.String())
	data, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(data), "at work\n")
	require.Contains(t, string(data), "warning\n")

	require.ErrorContains(t, runRecipe(t.Context(), log, &progress, script, "work", "3"), "build.sh: exit status 3")
}

func TestElapsedReminds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		clock := &elapsed{out: &out, since: time.Now()}
		clock.say("compiling")
		stop := clock.remind(time.Minute)
		time.Sleep(150 * time.Second)
		stop()
		require.Equal(t, "     0s  compiling\n   1m0s  compiling\n   2m0s  compiling\n", out.String())
	})
}

func TestCheckBuild(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{bootFile, btfFile, releaseFile} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644))
	}
	require.ErrorContains(t, checkBuild(dir), "the build left no config")
	require.NoError(t, os.WriteFile(filepath.Join(dir, configFile), []byte("x"), 0o644))
	require.NoError(t, checkBuild(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootFile), testBTF(5), 0o644))
	require.ErrorContains(t, checkBuild(dir), "the kernel has BTF")
}

// A kernel that is built is found in the cache by package, version and recipe.
func TestBuiltIsCached(t *testing.T) {
	s, downloads := fakeArchive(t)
	k := kernel{Name: "k", Arch: "amd64", Build: "nobtf", Source: testSource(`^linux-image-6\.18\.`, "good")}
	_, ok := s.cached(k)
	require.False(t, ok)

	source, err := s.fetch(t.Context(), k.Name, k.Arch, k.Source, copyDeb)
	require.NoError(t, err)
	_, ok = s.cached(k)
	require.False(t, ok, "the source is there, the kernel is not")

	final, err := s.buildChoice(k, source)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, final.Dir), 0o755))
	before := downloads()
	image, err := s.kernel(t.Context(), k)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(s.dir, final.Dir, bootFile), image.Boot)
	require.Equal(t, before, downloads())
}
