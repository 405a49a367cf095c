// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

const module = "../../.."

// shared is the server of all tests; absent says why there is none.
var (
	shared *Server
	absent string
)

func TestMain(m *testing.M) {
	// See Start.
	runtime.LockOSThread()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run() // lists them
	}
	// What client-go has to say concerns its own retries.
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	programs, err := Find(module)
	if err != nil {
		absent = err.Error()
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "apiserver")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	if shared, err = Start(programs, dir); err != nil {
		fmt.Fprintln(os.Stderr, "starting an API server:", err)
		return 1
	}
	defer shared.Stop()
	if err := shared.StartControllers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "the API server serves after %v\n", time.Since(began).Round(time.Millisecond))
	return m.Run()
}
