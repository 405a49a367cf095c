// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// logDir is where daemons' logs are.
const logDir = "/var/log"

// serve runs the daemons, and commands for the harness, until one of the daemons or
// the harness ends.
func serve(config boot.Config) error {
	port, err := openPort("/dev/ttyS1")
	if err != nil {
		return err
	}
	c := newChildren()
	ended := make(chan error)
	go func() { ended <- serveCommands(port, c) }()
	if err := c.daemon(ended, "containerd", config.Containerd); err != nil {
		return err
	}
	go func() {
		// A kubelet that doesn't find it waits for seconds until it tries again.
		err := await(config.Socket, 3*time.Minute)
		if err == nil {
			err = c.daemon(ended, "kubelet", config.Kubelet)
		}
		if err != nil {
			ended <- err
		}
	}()
	return <-ended
}

// daemon starts one, whose end is reported.
func (c *children) daemon(ended chan<- error, name string, argv []string) error {
	log, err := os.Create(logDir + "/" + name + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	group, err := os.Open(daemons)
	if err != nil {
		return err
	}
	defer group.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	end, err := c.start(cmd)
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	say("%s started", name)
	go func() {
		code := exitCode(<-end)
		ended <- fmt.Errorf("%s has ended with code %d:\n%s", name, code, tail(log.Name()))
	}()
	return nil
}

// tail is the end of a log.
func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// openPort opens a serial port for bytes as they are.
func openPort(name string) (*os.File, error) {
	port, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	settings, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	settings.Iflag, settings.Oflag, settings.Lflag = 0, 0, 0
	return port, unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, settings)
}

// serveCommands answers requests, one after the other.
func serveCommands(port io.ReadWriter, c *children) error {
	lines := bufio.NewReader(port)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("reading commands: %w", err)
		}
		var request boot.Request
		if json.Unmarshal(line, &request) != nil {
			continue // the rest of a line whose sender gave up
		}
		response, err := json.Marshal(c.command(request))
		if err != nil {
			return err
		}
		if _, err := port.Write(append(response, '\n')); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

// command runs one to its end.
func (c *children) command(request boot.Request) boot.Response {
	response := boot.Response{ID: request.ID}
	if err := c.run(request.Argv, &response); err != nil {
		response.Error = err.Error()
	}
	return response
}

func (c *children) run(argv []string, response *boot.Response) error {
	dir, err := os.MkdirTemp("", "command-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stdout, err := os.Create(dir + "/stdout")
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.Create(dir + "/stderr")
	if err != nil {
		return err
	}
	defer stderr.Close()
	if len(argv) == 0 {
		return fmt.Errorf("no command")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	end, err := c.start(cmd)
	if err != nil {
		return err
	}
	response.Code = exitCode(<-end)
	for file, text := range map[string]*string{stdout.Name(): &response.Stdout, stderr.Name(): &response.Stderr} {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		*text = string(content)
	}
	return nil
}
