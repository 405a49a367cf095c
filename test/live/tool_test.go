// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/agent"
	"nodegadget.dev/pkg/cli"
	"nodegadget.dev/pkg/tracer"

	"nodegadget.dev/gadgets"
	"nodegadget.dev/pkg/gadget"
)

// runTool makes events: the commands that scenarios and tests call.
func runTool(args []string) error {
	if len(args) == 0 {
		return errors.New("no command given")
	}
	command, args := args[0], args[1:]
	switch command {
	case "bind":
		return bind(args)
	case "listen":
		return listen(args[0])
	case "creat":
		return creat(args[0])
	case "openat2":
		return openat2(args[0])
	case "exec":
		// Failing is what it is for.
		fmt.Println(syscall.Exec(args[0], args, nil))
		return nil
	case "spin":
		for end := time.Now().Add(milliseconds(args[0])); time.Now().Before(end); {
		}
		return nil
	case "sleep":
		time.Sleep(milliseconds(args[0]))
		return nil
	case "kill":
		return syscall.Kill(atoi(args[0]), syscall.Signal(atoi(args[1])))
	case "syscalls":
		for range atoi(args[0]) {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
		return nil
	case "flood":
		return flood(args[0], atoi(args[1]))
	case "execs":
		return execs(atoi(args[0]))
	case "hold":
		return hold(args[0])
	case "cli":
		os.Exit(cli.Main(args))
	case "hidden":
		if err := hide(); err != nil {
			return fmt.Errorf("hiding the kernel's types: %w", err)
		}
		os.Exit(cli.Main(args))
	}
	return fmt.Errorf("unknown command %q", command)
}

func atoi(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func milliseconds(text string) time.Duration { return time.Duration(atoi(text)) * time.Millisecond }

// flood makes n events of one kind, from a thread that bears the name "flood", so
// that nothing else that the Go runtime does is counted.
func flood(kind string, n int) error {
	runtime.LockOSThread()
	name := append([]byte("flood"), 0)
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0); err != nil {
		return err
	}
	path, err := syscall.BytePtrFromString("/dev/null")
	if err != nil {
		return err
	}
	for range n {
		switch kind {
		case "open":
			fd, _, errno := syscall.RawSyscall6(syscall.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(path)), 0, 0, 0, 0)
			if errno != 0 {
				return errno
			}
			syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
		case "signal":
			// Signal 0 asks only whether it could be sent and makes no event.
			if err := unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.SIGURG); err != nil {
				return err
			}
		case "bind":
			if err := bindOnce(); err != nil {
				return err
			}
		}
	}
	return nil
}

func bindOnce() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

// execs starts /bin/true n times, one after the other, each with its number.
func execs(n int) error {
	for i := range n {
		if err := exec.Command("/bin/true", strconv.Itoa(i)).Run(); err != nil {
			return err
		}
	}
	return nil
}

// hold loads a gadget, prints that it has, and waits to be killed.
func hold(name string) error {
	c, err := gadget.NewCatalog(gadgets.Objects(), agent.Arch())
	if err != nil {
		return err
	}
	object, err := c.Object(name)
	if err != nil {
		return err
	}
	t, err := tracer.Open(object, tracer.Options{})
	if err != nil {
		return err
	}
	fmt.Println("attached")
	time.Sleep(time.Hour)
	// Without this the garbage collector would close what it holds.
	runtime.KeepAlive(t)
	return nil
}

func creat(path string) error {
	fd, err := creatSyscall(path, 0o640)
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}

func openat2(path string) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_RDWR | unix.O_CLOEXEC})
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}

// listen makes a listener as Go programs do: an MPTCP socket where there is MPTCP.
func listen(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// bind makes a plain socket, sets options and binds it. It prints the error of
// bind, which may be what the scenario is about.
func bind(args []string) error {
	network, address, options := args[0], args[1], args[2:]
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	family, kind := syscall.AF_INET, syscall.SOCK_STREAM
	var to syscall.Sockaddr = &syscall.SockaddrInet4{Port: atoi(port), Addr: to4(ip)}
	if strings.HasSuffix(network, "6") {
		family = syscall.AF_INET6
		to = &syscall.SockaddrInet6{Port: atoi(port), Addr: [16]byte(ip.To16())}
	}
	if strings.HasPrefix(network, "udp") {
		kind = syscall.SOCK_DGRAM
	}
	fd, err := syscall.Socket(family, kind, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := setOptions(fd, options); err != nil {
		return err
	}
	fmt.Println(syscall.Bind(fd, to))
	return nil
}

func to4(ip net.IP) [4]byte {
	if v4 := ip.To4(); v4 != nil {
		return [4]byte(v4)
	}
	return [4]byte{}
}

func setOptions(fd int, options []string) error {
	for _, option := range options {
		var err error
		switch {
		case option == "reuseaddr":
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		case option == "reuseport":
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		case option == "freebind":
			err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
		case strings.HasPrefix(option, "dev="):
			err = unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, option[len("dev="):])
		default:
			err = fmt.Errorf("unknown option %q", option)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", option, err)
		}
	}
	return nil
}
